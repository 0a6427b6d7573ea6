"""Accounts, groups, roles and namespaces at the command line: what is done, what is told, and no secret on the way."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from registry.cli.app import app

Run = Callable[..., Any]
PASSWORD = "correct horse"


@pytest.fixture
def run(condery: Run, tmp_path: Path) -> Run:
    """A command on a store of the test's own; fails for another exit code than `code`."""

    def run(line: str, *more: object, code: int = 0, stdin: str | bytes = "") -> Any:
        done = condery(*line.split(), *more, "--data-dir", tmp_path / "data", stdin=stdin)
        assert done.exit_code == code, (line, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return run


def test_an_account_is_connected_with_a_user_elsewhere(run: Run) -> None:
    run("user add alice --no-password")
    run("user add bob --no-password")
    told = run("user connect alice --subject Alice@Example.org")
    assert "Alice@Example.org of proxy is alice here" in told.stdout
    refused = run("user connect bob --subject Alice@Example.org", code=1)
    assert "condery user disconnect alice --issuer proxy" in refused.stderr
    run("user disconnect alice")
    run("user connect bob --subject Alice@Example.org")
    assert "is not connected" in run("user disconnect alice", code=1).stderr
    assert "user.connect" in run("audit").stdout


def test_a_name_under_which_others_have_something_is_asked_about(run: Run, tmp_path: Path) -> None:
    settings = tmp_path / "condery.toml"
    settings.write_text('anonymous_bindings = ["public/*=viewer"]\n')
    run("user add zeta --no-password")
    run("role bind omega/*=editor --user zeta")
    refused = run("user add omega --no-password", code=1).stderr
    assert "somebody was bound to omega/*=editor, which condery role list shows" in refused
    assert "--take-namespace" in refused
    assert "the settings grant something in it" in run("user add public --no-password", code=1).stderr
    run("user add omega --no-password --take-namespace")


@pytest.fixture(scope="module")
def _people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("people") / "data"
    for line in ("user add alice --admin", "user add bob --no-password", "robot add ci"):
        done = CliRunner().invoke(app, [*line.split(), "--data-dir", str(data)], input=PASSWORD)
        assert done.exit_code == 0, done.stderr
    return data / "condery.sqlite"


@pytest.fixture
def people(run: Run, _people: Path, tmp_path: Path) -> Run:
    """Commands on a store with the administrator alice, with bob, and with the robot ci."""
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(_people, tmp_path / "data")
    return run


def listed(run: Run, line: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run(f"{line} --json").stdout)
    return rows


def test_people_are_added_listed_and_deleted(run: Run) -> None:
    done = run("user add bob", "--display-name", "Bob the Builder", stdin=f"{PASSWORD}\n")
    assert done.stdout == "added the user bob\n"
    assert (
        "nobody who can sign in is admin of everything yet; for bob: condery role bind --user bob '*=admin'"
        in done.stderr
    )
    assert run("user add alice --admin", stdin=PASSWORD).stderr == ""
    rows = listed(run, "user list")
    assert [(row["name"], row["display_name"], row["state"]) for row in rows] == [
        ("alice", None, "active"),
        ("bob", "Bob the Builder", "active"),
    ]
    assert "Bob the Builder" in run("user list").stdout
    run("user disable bob")
    assert listed(run, "user list")[1]["state"] == "disabled"
    run("user enable bob")
    run("user delete bob")
    assert [row["name"] for row in listed(run, "user list")] == ["alice"]


def test_the_last_administrator_is_kept_unless_forced(people: Run) -> None:
    for line in ("user delete alice", "user disable alice", "role unbind --user alice *=admin"):
        assert "this would leave no person who is admin of everything" in people(line, code=1).stderr
    people("user delete alice --force")


class TestPasswords:
    def test_come_from_a_file_or_standard_input(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "password"
        path.write_text(f"{PASSWORD}\r\nanother line")
        run(f"user add alice --password-file {path}")
        run("user passwd alice", stdin="battery staple")
        run(f"user passwd alice --password-file {path}")

    @pytest.mark.parametrize("stdin", ["", "\n", "short\n", b"\xff\xfe\xfd\xfa long enough\n", "x" * 5000])
    def test_that_are_none_are_refused(self, run: Run, stdin: str | bytes) -> None:
        done = run("user add alice", stdin=stdin, code=1 if stdin in ("short\n", "x" * 5000) else 2)
        assert "password" in done.stderr
        assert done.stderr.count("\n") == 1
        assert len(done.stderr) < 300

    def test_are_never_an_argument(self, run: Run) -> None:
        for line in ("user add alice --password x", "user passwd alice secret", "user add alice secret"):
            run(line, code=2)

    def test_a_file_that_is_not_there_is_told(self, run: Run, tmp_path: Path) -> None:
        assert "No such file" in run(f"user add alice --password-file {tmp_path}/none", code=1).stderr

    def test_are_asked_for_twice_and_unseen_at_a_terminal(self, tmp_path: Path) -> None:
        terminal, end = pty.openpty()
        command = [sys.executable, "-m", "registry.cli", "user", "add", "alice", "--data-dir", str(tmp_path / "data")]
        process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end)
        os.close(end)
        shown = b""
        for answer in (f"{PASSWORD}\n", "mistyped it\n", f"{PASSWORD}\n", f"{PASSWORD}\n"):
            shown += _read_until(terminal, b"assword: ", b"confirmation: ")
            os.write(terminal, answer.encode())
        shown += _read_until(terminal, b"'*=admin'")
        assert process.wait(60) == 0
        os.close(terminal)
        assert PASSWORD.encode() not in shown

    def test_that_a_terminal_has_cut_are_refused(self, tmp_path: Path) -> None:
        terminal, end = pty.openpty()
        command = [sys.executable, "-m", "registry.cli", "user", "add", "alice", "--data-dir", str(tmp_path / "data")]
        process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end)
        os.close(end)
        for _ in range(2):
            _read_until(terminal, b"assword: ", b"confirmation: ")
            os.write(terminal, b"x" * 5000 + b"\n")
        assert b"pass the password by --password-file" in _read_until(terminal, b"--password-file")
        assert process.wait(60) == 2
        os.close(terminal)


def _read_until(terminal: int, *endings: bytes) -> bytes:
    """What the process writes, until it waits for an answer or is done."""
    seen = b""
    # the terminal is at its end when the process is
    with contextlib.suppress(OSError):
        while not seen.rstrip(b"\r\n").endswith(endings):
            seen += os.read(terminal, 1000)
    assert seen.rstrip(b"\r\n").endswith(endings), seen
    return seen


def test_groups(people: Run) -> None:
    people("group add science")
    people("group join science bob")
    assert [row["members"] for row in listed(people, "group list")] == [["bob"]]
    people("group leave science bob")
    assert "bob is not in group science" in people("group leave science bob", code=1).stderr
    assert "ci is a robot: robots are in no groups" in people("group join science ci", code=1).stderr
    people("group delete science")
    assert listed(people, "group list") == []
    assert "there are no groups; add one with" in people("group list").stderr


def test_robots(people: Run) -> None:
    people("robot add mine --owner bob --no-expiry")
    people("robot add short --days 0.5")
    rows = {row["name"]: row for row in listed(people, "robot list")}
    assert (rows["mine"]["owner"], rows["mine"]["state"]) == ("bob", "active")
    assert rows["ci"]["owner"] is None
    assert rows["ci"]["state"].startswith("until 20")
    people("robot disable mine")
    assert "owner" in people("robot list").stdout
    people("robot enable mine")
    people("robot delete mine")
    people("robot add x --days -1", code=2)
    # people are no robots, and robots no people
    people("robot delete bob", code=1)
    people("user delete ci", code=1)


def test_roles(people: Run) -> None:
    assert people("role bind team/*=developer --user bob").stdout == "bob has team/*=editor\n"
    people("namespace create lab")
    people("group add science")
    for holder in ("--robot ci", "--group science", "--namespace lab"):
        people(f"role bind team/*=viewer {holder}")
    rows = [(row["kind"], row["name"], row["entity"], row["role"]) for row in listed(people, "role list")]
    assert rows == [
        ("account", "alice", "*", "admin"),
        ("account", "bob", "team/*", "editor"),
        ("account", "ci", "team/*", "viewer"),
        ("group", "science", "team/*", "viewer"),
        ("namespace", "lab", "team/*", "viewer"),
    ]
    assert [row["name"] for row in listed(people, "role list --user bob")] == ["bob"]
    people("role unbind team/*=developer --user bob")
    assert listed(people, "role list --user bob") == []
    people("namespace delete lab")
    assert [row["kind"] for row in listed(people, "role list")] == ["account", "account", "group"]
    assert listed(people, "namespace list") == []


def test_a_namespace_of_a_persons_name_is_theirs(people: Run) -> None:
    assert "the user bob is admin of it" in people("namespace create bob").stderr
    for name in ("team", "ci"):
        assert people(f"namespace create {name}").stderr == ""


def test_quotas_of_namespaces(people: Run) -> None:
    people("namespace create team")
    assert people("namespace quota team").stdout == (
        "the namespace team holds 0 bytes\nit has no limit by the setting namespace_quota\n"
    )
    assert people("namespace quota team 10GB").stdout == "set the quota of the namespace team to 10000000000\n"
    assert "it may hold 10,000,000,000 bytes by its own quota" in people("namespace quota team").stdout
    # those that the server fills itself need not be created
    people("namespace quota conda-store-dynamic none")
    people("namespace quota mirror 500GiB")
    assert {row["name"]: row["quota"] for row in listed(people, "namespace list")} == {
        "conda-store-dynamic": "none", "mirror": 500 << 30, "team": 10**10,
    }  # fmt: skip
    people("namespace quota team default")
    assert json.loads(people("namespace quota team --namespace-quota 5GB --json").stdout) == {
        "namespace": "team", "quota": "default", "limit": 5 * 10**9, "held": 0,
    }  # fmt: skip
    told = json.loads(people("audit --action namespace.quota --json").stdout)["events"]
    assert [(row["entity"], row["detail"]["quota"]) for row in told] == [
        ("team", "default"), ("mirror", 500 << 30), ("conda-store-dynamic", 0), ("team", 10**10),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("user delete alcie", 1, "there is no account 'alcie'; did you mean alice?"),
        ("user add Bob --no-password", 2, "'Bob' cannot be the name of an account: did you mean 'bob'?"),
        ("user add alice --no-password", 1, "alice is the name of a person already; choose another name"),
        ("user add x --no-password --password-file y", 2, "contradict each other"),
        ("role bind team/*=viewer", 2, "say for whom with exactly one of --user, --robot, --group and --namespace"),
        (
            "role bind team/*=viewer --user alice --group x",
            2,
            "--group and --namespace; you gave 2",
        ),
        ("role bind team/*=owner --user alice", 2, "'owner' is not a role; the roles here are admin,"),
        ("role bind team=viewer --user alice", 2, "'team' is not an entity"),
        ("role bind conda-store-dynamic/numpy=viewer --user alice", 2, "give conda-store-dynamic/* instead of"),
        (
            "role unbind team/*=viewer --user alice",
            1,
            "account alice does not have the binding team/*=viewer; it has *",
        ),
        ("role bind a/*=viewer --group sience", 1, "there is no group 'sience'"),
        ("namespace delete team", 1, "there is no namespace 'team'"),
        ("namespace create mirror", 2, "the server uses it itself"),
        ("namespace quota team 10GB", 1, "there is no namespace 'team'"),
        ("namespace quota te%m", 1, "there is no namespace 'te%m'"),
        ("namespace quota team 0", 2, "a quota of 0 would let nothing in; for no limit, write none"),
        ("namespace quota team 0GB", 2, "a quota of 0GB would let nothing in; for no limit, write none"),
        ("namespace delete mirror", 1, "namespace mirror is the server's own and stays"),
        ("namespace quota team 10XB", 2, "'10XB' is not a size"),
        ("namespace quota team 9999999TB", 2, "9999999TB is more than any disk has; for no limit, write none"),
        (
            "explain-access alice environment:read team/x",
            2,
            "is not a permission; did you mean environment::read",
        ),
        ("explain-access alice environment::read 'te am'", 2, "is not an entity"),
        ("explain-access carol environment::read team/x", 1, "there is no account 'carol'"),
    ],
)
def test_mistakes_are_told_in_one_line(people: Run, line: str, code: int, says: str) -> None:
    words = ["'te am'", "te am"] if "'te am'" in line else [line.rpartition(" ")[2]] * 2
    done = people(line.removesuffix(words[0]), words[1], code=code)
    assert done.stderr.startswith("condery: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_mistyped_data_directory_does_not_look_empty(run: Run, tmp_path: Path) -> None:
    for line in ("user list", "role list", "user delete alice", "explain-access alice environment::read a/b"):
        assert "there is no data directory" in run(line, code=2).stderr
    assert not (tmp_path / "data").exists()


def test_signing_out_ends_what_condery_login_made(people: Run) -> None:
    people("token create", "condery login at lost", "--user", "bob")
    people("token create", "condery login at home", "--user", "alice")
    people("token create nightly --user bob")
    told = people("user sign-out bob")
    assert "access tokens that still work: 1; see: condery token list --user bob" in told.stderr
    names = [each["name"] for each in json.loads(people("token list --user bob --json").stdout)]
    assert names == ["nightly"]
    assert "condery login at home" in people("token list --user alice --json").stdout
    ended = [each for each in people("audit --json").stdout.splitlines() if "token.revoke" in each]
    assert len(ended) == 1
    assert "access tokens" not in people("user sign-out bob --tokens").stderr
    assert "nightly" not in people("token list --user bob --json").stdout
    assert people("token list --user alice --json").stdout != "[]"


def test_a_namespace_that_nobody_made_is_not_shown(people: Run) -> None:
    people("namespace create science")
    for line in ("namespace quota sceince", "policy show sceince"):
        done = people(line, code=1)
        assert "there is no namespace 'sceince'; did you mean science?" in done.stderr
        assert done.stdout == ""
    assert "there is no namespace 'te%m'" in people("policy show te%m", code=1).stderr
    for name in ("science", "conda-store-dynamic", "mirror"):
        people(f"policy show {name}")
        people(f"namespace quota {name}")


class TestExplainAccess:
    def explain(self, run: Run, line: str, *, granted: bool) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(run(f"explain-access {line} --json", code=0 if granted else 1).stdout)
        assert document["granted"] is granted
        assert (document["fix"] is None) is (granted or "disabled" in document["because"])
        return document

    def test_says_which_binding_decides(self, people: Run) -> None:
        found = self.explain(people, "alice environment::delete team/x", granted=True)
        assert (found["binding"], found["source"]) == ("*=admin", "bound to the account")
        assert self.explain(people, "bob environment::delete bob/x", granted=True)["source"] == "their own namespace"
        # every image on demand is one to the server
        found = self.explain(people, "bob environment::create conda-store-dynamic/python/numpy", granted=True)
        assert found["binding"] == "conda-store-dynamic/*=editor"
        done = people("explain-access bob environment::create team/x", code=1)
        assert "bob may not environment::create on team/x: there is *=viewer (setting anonymous_bind" in done.stdout
        assert "to grant it: condery role bind --user bob 'team/x=editor'" in done.stdout
        # the settings decide, too
        assert (
            "; a server with others decides by its own" in done.stderr or "--config takes the server's" in done.stderr
        )

    @pytest.mark.parametrize(
        "question", ["bob environment::create team/x", "bob namespace::update team", "ci environment::delete a/b/c"]
    )
    def test_the_command_it_gives_grants_it(self, people: Run, question: str) -> None:
        fix = self.explain(people, question, granted=False)["fix"]
        assert fix.startswith("condery role bind ")
        people(fix.removeprefix("condery ").replace("'", ""))
        self.explain(people, question, granted=True)

    def test_a_robot_needs_its_owners_right_as_well(self, people: Run) -> None:
        people("robot add mine --owner bob")
        people("role bind team/*=admin --robot mine")
        found = self.explain(people, "mine environment::create team/x", granted=False)
        assert (
            "team/*=admin (bound to the account) grants it, but its owner bob may not do it either" in found["because"]
        )
        people(found["fix"].removeprefix("condery ").replace("'", ""))
        self.explain(people, "mine environment::create team/x", granted=True)
        people("user disable bob")
        assert "bob is disabled" in self.explain(people, "mine environment::read team/x", granted=False)["because"]

    def test_anybody(self, people: Run) -> None:
        self.explain(people, "anonymous environment::read team/x", granted=True)
        found = self.explain(people, "anonymous environment::create team/x", granted=False)
        assert found["fix"] == "add team/x=editor to the setting anonymous_bindings"

    @pytest.mark.parametrize("holder", ["--user bob", "--group science"])
    def test_a_role_that_the_settings_do_not_have_is_told(self, people: Run, tmp_path: Path, holder: str) -> None:
        settings = tmp_path / "roles.toml"
        settings.write_text('roles = ["publisher=environment::read+environment::create"]\n')
        people("group add science")
        people("group join science bob")
        people(f"role bind public/*=publisher {holder}", "--config", settings)
        self.explain(people, f"bob push public/x --config {settings}", granted=True)
        because = self.explain(people, "bob push public/x", granted=False)["because"]
        assert "grants nothing: the settings have no role publisher" in because
        assert "public/*=publisher (bound to the" in because
        # nothing of it is about other names, and other people
        assert "publisher" not in self.explain(people, "bob push team/x", granted=False)["because"]
        assert "publisher" not in self.explain(people, "ci push public/x", granted=False)["because"]
