"""`condery env` and `condery build list|show|logs|cancel` on the local store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.registry.shell import Shell


def test_an_environment_is_made_shown_changed_rolled_back_and_deleted(shell: Shell) -> None:
    shell.write("Analysis", "one", "two=1.0", file="analysis.yaml")
    made = shell("env create analysis.yaml --description what-for")
    assert made.stdout == "localhost:5000/default/analysis:1\n"
    assert "BUILDING" in made.stderr
    assert made.stderr.splitlines()[-1].endswith("COMPLETED")

    shell.write("Analysis", "two", "three", file="analysis.yaml")
    asked = shell.json("env create analysis.yaml")
    assert asked["image"] == "localhost:5000/default/analysis:2"
    assert asked["build"]["status"] == "COMPLETED"

    (listed,) = shell.json("env list")
    assert (listed["name"], listed["description"], listed["current_build"]) == ("Analysis", "what-for", 2)
    shown = shell.json("env show Analysis")
    assert shown["image"] == "localhost:5000/default/analysis"
    assert shown["files"]["pixi.lock"] == "http://localhost:5000/files/default/analysis/latest/pixi.lock"
    newest, oldest = shown["builds"]
    assert newest["changes"] == {
        "against": 1,
        "added": [{"name": "three", "version": "1.0"}],
        "removed": [],
        "changed": [{"name": "two", "from": "1.0", "to": "2.0"}],
    }
    assert oldest["changes"] is None
    assert "+ three 1.0, ~ two 1.0 -> 2.0" in shell("env show default/Analysis").stdout

    assert "build 1 is the current build of default/Analysis now" in shell("env rollback Analysis").stdout
    assert shell.json("env show Analysis")["current"]["id"] == 1
    assert "no complete build before build 1" in shell("env rollback Analysis", code=2).stderr
    shell("env rollback Analysis 2")
    shell("env update Analysis --description other")
    assert shell.json("env list")[0]["description"] == "other"

    assert "default/Analysis is deleted" in shell("env delete Analysis").stdout
    assert shell.json("env list") == []
    assert "there are no environments; `condery env create FILE` makes one" in shell("env list").stderr
    assert "there is no environment" in shell("env show Analysis", code=1).stderr


def test_a_build_is_left_to_a_server_listed_followed_and_canceled(shell: Shell) -> None:
    shell.write("app", "one")
    left = shell("env create app.yaml --namespace team --no-wait")
    assert left.stdout == "localhost:5000/team/app:1\n"
    # the command may have begun it by the time it leaves
    assert "A server on this data directory builds it: at once if it runs, else when `condery serve`" in left.stderr
    (build,) = shell.json("build list team/app")
    assert (build["id"], build["ended"]) == (1, None)
    assert build["status"] in ("QUEUED", "BUILDING")
    assert "build 1 is canceled" in shell("build cancel team/app").stdout
    assert shell.json("build show 1")["status"] == "CANCELED"
    assert "cannot be canceled any more" in shell("build cancel 1", code=1).stderr
    assert "build 1 of team/app is CANCELED" in shell("build logs -f 1", code=1).stderr

    again = shell("env update team/app")
    assert again.stdout == "localhost:5000/team/app:2\n"
    assert again.stderr.startswith("build 2 solves again what build 1 was asked for: dependencies: one\n")
    log = shell("build logs 2").stdout
    assert log == shell("build logs -f team/app").stdout
    assert log.splitlines()[-1].endswith("COMPLETED")
    shown = shell("build show team/app").stdout
    assert "rebuild" in shown
    assert "one 1.0" in shown
    assert [each["id"] for each in shell.json("build list --status completed")] == [2]
    assert "1 of 2 builds" in shell("build list --limit 1").stderr
    assert "there is no build 77" in shell("build show 77", code=1).stderr


def test_a_build_that_fails_is_a_command_that_fails_and_says_why(shell: Shell) -> None:
    shell.write("broken", "one", "no-such-package")
    done = shell("env create broken.yaml", code=1)
    assert done.stdout == ""
    assert "build 1 of default/broken is FAILED" in done.stderr
    assert "no-such-package" in done.stderr.splitlines()[-1]
    assert "stays the current one" not in done.stderr
    assert "no-such-package" in shell.json("env show broken")["current"]["info"]

    shell.write("broken", "one")
    shell("env update broken broken.yaml --description works")
    shell.write("broken", "one", "no-such-package")
    failed = shell("env update broken broken.yaml --description fails --json", code=1)
    error = json.loads(failed.stdout)["error"]
    assert error["message"] == failed.stderr.removeprefix("condery: ").rstrip()
    assert error["message"].endswith(" Build 2 stays the current one")
    assert (error["exit_code"], error["current_build"]) == (1, 2)
    assert (error["build"]["id"], error["build"]["status"]) == (3, "FAILED")
    shown = shell("env show broken").stdout
    assert "default/broken: works" in shown
    assert "current build: 2, COMPLETED" in shown
    assert "last build:    3, FAILED (" in shown
    assert "build 2 stays the current one; see `condery build show 3`" in shown
    assert f"asked for:     dependencies: one\n               channels: {shell.channel}\n" in shown
    assert shell.json("env show broken")["specification"]["dependencies"] == ["one"]
    assert "  dependencies: one, no-such-package\n" in shell("build show 3").stdout
    assert shell.json("build show 3")["specification"]["dependencies"] == ["one", "no-such-package"]


def test_every_kind_of_file_is_taken_and_standard_input(shell: Shell, tmp_path: Path) -> None:
    shell.write("app", "one")
    shell("env create app.yaml")
    for number, (kind, name) in enumerate(
        (("conda-lock.yml", "a.yml"), ("pixi.lock", "pixi.lock"), ("explicit.txt", "e.txt")), 1
    ):
        formats = {"conda-lock.yml": "conda-lock", "pixi.lock": "pixi", "explicit.txt": "explicit"}
        lock = shell(f"lock one --format {formats[kind]}").stdout
        (tmp_path / name).write_text(lock)
        assert f"{name} does not say what its environment is called" in shell(f"env create {name}", code=2).stderr
        asked = shell.json(f"env create {name} --name from-{number}")
        assert asked["build"]["status"] == "COMPLETED", kind
    (tmp_path / "pixi.toml").write_text(
        f'[workspace]\nname = "pixi"\nchannels = ["{shell.channel}"]\nplatforms = ["linux-64"]\n'
        '[dependencies]\none = "*"\n'
    )
    shell("env create pixi.toml")
    shell("env create -", stdin=json.dumps({"name": "piped", "channels": [shell.channel], "dependencies": ["two"]}))
    assert [each["name"] for each in shell.json("env list --package two")] == ["piped"]
    assert [each["name"] for each in shell.json("env list --search FROM")] == ["from-1", "from-2", "from-3"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("env create missing.yaml", "missing.yaml cannot be read: No such file or directory"),
        ("env create empty.yaml", "empty.yaml: it is empty"),
        ("env create bad.yaml", "bad.yaml: dependencies"),
        ("env create app.yaml --name other", "app.yaml says that it is called app, and not other"),
        ("env create app.yaml --namespace A/B", "A/B is not the name of a namespace"),
        ("env show a/b/c --namespace team", "a/b/c is not in the namespace team"),
        ("env show a*b", "is not the name of an environment"),
        ("env list --status broken", "it is one of QUEUED"),
        ("build show 0", "0 is not the number of a build"),
        ("env update app app.yaml --server https://", "is no server such as"),
        ("env list --server http://registry.example.org", "add --insecure"),
    ],
)
def test_what_is_wrong_with_a_command_is_said_with_exit_code_2(shell: Shell, line: str, reason: str) -> None:
    shell.write("app", "one")
    (shell.directory / "empty.yaml").write_text("\n")
    (shell.directory / "bad.yaml").write_text("name: bad\nchannels: [x]\ndependencies: 7\n")
    (shell.directory / "data").mkdir(mode=0o700)
    assert reason in " ".join(shell(line, code=2).stderr.split())


def test_a_command_that_reads_makes_no_store(shell: Shell) -> None:
    assert "there is no data directory" in shell("env list", code=2).stderr
    assert not (shell.directory / "data").exists()
