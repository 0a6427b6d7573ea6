"""The file of logins: others change it at any time, and it may be anything."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.cli import logins
from registry.cli.logins import LoginFile
from registry.cli.options import UsageError
from tests.support.server import Server, StartServer

Run = Callable[..., Any]
PASSWORD = "correct horse"


def hosts(file: Path) -> set[str]:
    return set(json.loads(file.read_text())["auths"])


@pytest.fixture
def server(start_server: StartServer, condery: Run, tmp_path: Path) -> Server:
    """With the administrator alice."""
    data = tmp_path / "data"
    assert condery("user", "add", "alice", "--admin", "--data-dir", data, stdin=PASSWORD).exit_code == 0
    return start_server(data_dir=data)


def test_what_others_write_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text('{"auths": {"old": {"auth": "eDp5"}}}')
    file.chmod(0o644)
    ours, others = LoginFile(file), LoginFile(file)
    file.write_text('{"auths": {"new": {"auth": "eDp5", "identitytoken": "t"}}, "credHelpers": {"a": "b"}}')
    ours.keep("ours", "alice", "secret")
    others.keep("others", "alice", "secret")
    assert hosts(file) == {"new", "ours", "others"}
    assert json.loads(file.read_text())["credHelpers"] == {"a": "b"}
    assert json.loads(file.read_text())["auths"]["new"] == {"auth": "eDp5", "identitytoken": "t"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ours.forget("others", "secret")
    assert hosts(file) == {"new", "ours"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["auth.json", "auth.json.lock"]


def test_a_newer_login_is_not_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    LoginFile(file).keep("host", "alice", "first")
    leaving = LoginFile(file)
    LoginFile(file).keep("host", "alice", "second")
    leaving.forget("host", "first")
    assert LoginFile(file).find_secret("host") == "second"


def test_logins_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "auth.json"
    program = (
        "import sys; from pathlib import Path; from registry.cli.logins import LoginFile\n"
        "for number in range(20): LoginFile(Path(sys.argv[1])).keep(f'{sys.argv[2]}-{number}', 'a', 'b')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(file), name]) for name in ("x", "y", "z")]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert hosts(file) == {f"{name}-{number}" for name in ("x", "y", "z") for number in range(20)}


def test_who_never_lets_go_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "LOCK_SECONDS", 0.1)
    file = LoginFile(tmp_path / "auth.json")
    with open(tmp_path / "auth.json.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another program holds"):
            file.keep("host", "alice", "secret")
    file.keep("host", "alice", "secret")


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "auth.json"
    link.symlink_to(tmp_path / "real" / "config.json")
    LoginFile(link).keep("host", "alice", "secret")
    assert link.is_symlink()
    assert hosts(tmp_path / "real" / "config.json") == {"host"}


def make(file: Path, kind: str) -> None:
    match kind:
        case "loop":
            file.symlink_to(file)
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")
        case "large":
            file.write_bytes(b" " * (logins.LARGEST + 1))
        case "below a file":
            file.parent.rmdir()
            file.parent.write_text("")
        case _:
            file.write_text(kind)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("loop", "cannot be read and written: Too many levels of symbolic links"),
        ("pipe", "is no regular file"),
        ("folder", "is no regular file"),
        ("device", "is no regular file"),
        ("large", "has more than"),
        ("below a file", "cannot be read and written: Not a directory"),
        ('{"auths":' + "[" * 100_000, "is no JSON document"),
        ('{"auths": {}, "auths": {"a": {}}}', "it has the key 'auths' twice"),
        ('{"auths": {}, "n": NaN}', "is no JSON document"),
        ("", "is no JSON document"),
        ("[]", "is no file of logins"),
        ('{"auths": null}', "is no file of logins"),
    ],
)
def test_what_is_no_such_file_is_told_before_anything_is_sent(
    condery: Run, tmp_path: Path, kind: str, said: str
) -> None:
    file = tmp_path / "folder" / "auth.json"
    file.parent.mkdir()
    make(file, kind)
    for line in (["login", "localhost:1", "-u", "alice"], ["login", "localhost:1"], ["logout", "localhost:1"]):
        done = condery(*line, "--file", file, stdin=PASSWORD)
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


def test_a_folder_that_cannot_be_written_is_told_before_a_token_is_made(
    server: Server, condery: Run, tmp_path: Path
) -> None:
    (tmp_path / "here").write_text("")
    link = tmp_path / "auth.json"
    link.symlink_to(tmp_path / "here" / "auth.json")
    done = condery("login", server.address, "-u", "alice", "--file", link, stdin=PASSWORD)
    assert (done.exit_code, "Not a directory" in done.stderr) == (2, True), done.stderr
    # nobody may write here, root neither
    done = condery("login", server.address, "-u", "alice", "--file", "/proc/self/auth.json", stdin=PASSWORD)
    assert (done.exit_code, "cannot be read and written" in done.stderr) == (2, True), done.stderr
    assert json.loads(condery("token", "list", "--ended", "--json", "--data-dir", server.data_dir).stdout) == []


def test_a_token_that_cannot_be_written_down_is_revoked(
    server: Server, condery: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file becomes unusable while the server answers."""
    file = tmp_path / "auth.json"
    before = LoginFile.check_writable

    def check_and_break(self: LoginFile) -> None:
        before(self)
        file.mkdir(exist_ok=True)

    monkeypatch.setattr(LoginFile, "check_writable", check_and_break)
    done = condery("login", server.address, "-u", "alice", "--file", file, stdin=PASSWORD)
    assert (done.exit_code, "is no regular file" in done.stderr) == (2, True), done.stderr
    assert json.loads(condery("token", "list", "--json", "--data-dir", server.data_dir).stdout) == []
    # one that somebody gave is theirs
    token = condery("token", "create", "mine", "--user", "alice", "--data-dir", server.data_dir).stdout.strip()
    file.rmdir()
    assert condery("login", server.address, "-u", "alice", "--file", file, stdin=token).exit_code == 2
    [row] = json.loads(condery("token", "list", "--json", "--data-dir", server.data_dir).stdout)
    assert row["name"] == "mine"


def test_a_name_with_a_colon_is_refused(condery: Run, tmp_path: Path) -> None:
    done = condery("login", "localhost:1", "-u", "a:b", "--file", tmp_path / "auth.json", stdin=PASSWORD)
    assert (done.exit_code, "has a colon" in done.stderr) == (2, True)


def test_the_form_is_docker_s(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    LoginFile(file).keep("host", "alice", "sec:ret")
    encoded = json.loads(file.read_text())["auths"]["host"]["auth"]
    assert base64.b64decode(encoded) == b"alice:sec:ret"
    assert LoginFile(file).find_secret("host") == "sec:ret"
