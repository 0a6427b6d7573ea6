"""Access tokens at the command line, and signing in to a real server with one."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from auth.tokens.secrets_text import is_access_token
from tests.support.registry.browser import fields_of
from tests.support.server import Server, StartServer

Run = Callable[..., Any]
PASSWORD = "correct horse"


@pytest.fixture
def server(start_server: StartServer, condery: Run, tmp_path: Path) -> Server:
    """With the administrator alice."""
    data = tmp_path / "data"
    assert condery("user", "add", "alice", "--admin", "--data-dir", data, stdin=PASSWORD).exit_code == 0
    return start_server(data_dir=data)


def test_a_login_keeps_a_token_that_a_logout_revokes(server: Server, condery: Run, tmp_path: Path) -> None:
    file = tmp_path / "logins" / "auth.json"
    done = condery("login", server.address, "-u", "alice", "--file", file, stdin=f"{PASSWORD}\n")
    assert done.exit_code == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())["auths"][server.address]["auth"]
    name, _, token = base64.b64decode(kept).decode().partition(":")
    assert (name, token.startswith("condery_")) == ("alice", True)
    assert PASSWORD not in done.output
    assert token not in done.output
    [row] = json.loads(condery("token", "list", "--json", "--data-dir", server.data_dir).stdout)
    assert row["name"].startswith("condery login at ")
    # a token does instead of a password
    other = tmp_path / "other.json"
    other.write_text('{"auths": {"elsewhere": {"auth": "eDp5"}}, "kept": 1}')
    assert condery("login", server.address, "-u", "x", "--file", other, stdin=token).exit_code == 0
    assert json.loads(other.read_text())["kept"] == 1
    assert set(json.loads(other.read_text())["auths"]) == {"elsewhere", server.address}
    assert condery("logout", server.address, "--file", file).exit_code == 0
    assert json.loads(file.read_text()) == {"auths": {}}
    assert json.loads(condery("token", "list", "--json", "--data-dir", server.data_dir).stdout) == []
    again = condery("logout", server.address, "--file", other)
    assert (again.exit_code, "401" in again.stderr) == (1, True)
    assert set(json.loads(other.read_text())["auths"]) == {"elsewhere"}


def log_in(server: Server) -> requests.Session:
    """A browser in which alice is signed in."""
    browser = requests.Session()
    page = browser.get(f"{server.url}/login", timeout=60)
    done = send(browser, f"{server.url}/login", page.text, username="alice", password=PASSWORD)
    assert done.history[0].status_code == 303
    return browser


def send(browser: requests.Session, url: str, page: str, **fields: str) -> requests.Response:
    return browser.post(url, data={**fields_of(page), **fields}, timeout=60)


@pytest.mark.parametrize("answer", ["allow", "deny"])
def test_a_login_by_a_browser(server: Server, condery: Run, tmp_path: Path, answer: str) -> None:
    file = tmp_path / "auth.json"
    command = [sys.executable, "-m", "registry.cli", "login", server.address, "--file", str(file), "--days", "3"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        told = [running.stderr.readline().decode().split() for _ in range(2)]
        assert told[0] == ["go", "to", f"{server.url}/device"]
        code = told[1][-1]
        browser = log_in(server)
        asked = browser.get(f"{server.url}/device", timeout=60).text
        shown = send(browser, f"{server.url}/device", asked, user_code=code)
        assert "condery login at " in shown.text
        assert send(browser, f"{server.url}/device", shown.text, answer=answer).status_code == 200
        said, problem = running.stdout.read().decode(), running.stderr.read().decode()
        assert running.wait(60) == (0 if answer == "allow" else 1), problem
    if answer == "deny":
        assert "denied in the browser" in problem
        assert not file.exists()
        return
    assert f"signed in to {server.address}" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())["auths"][server.address]["auth"]
    name, _, token = base64.b64decode(kept).decode().partition(":")
    assert (name, is_access_token(token)) == ("alice", True)
    assert token not in said + problem
    [row] = json.loads(condery("token", "list", "--json", "--data-dir", server.data_dir).stdout)
    assert row["name"].startswith("condery login at ")
    assert condery("logout", server.address, "--file", file).exit_code == 0
    assert json.loads(condery("token", "list", "--json", "--data-dir", server.data_dir).stdout) == []


def test_a_login_by_a_browser_at_what_is_no_condery(condery: Run, tmp_path: Path) -> None:
    """Whatever it answers, nothing is kept, and nothing reaches the terminal as it is."""
    answers: list[tuple[int, object]] = [
        (404, {}),
        (200, []),
        (200, {"device_code": "d", "user_code": "u"}),
        (400, {"error": "invalid_request", "error_description": "\x1b[31mno"}),
        (200, "x" * 2_000_000),
    ]
    file = tmp_path / "auth.json"
    for status, document in answers:
        with answering(status, json.dumps(document).encode()) as address:
            done = condery("login", address, "--file", file)
        assert done.exit_code == 1, done.output
        assert "\x1b" not in done.output + done.stderr
        assert not file.exists()
    usage = condery("login", "localhost:1", "--password-file", file)
    assert (usage.exit_code, "with --user" in usage.stderr) == (2, True)
    assert condery("login", "localhost:1", "--days", "0").exit_code == 2


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The address of a server that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()


def test_wrong_logins_keep_nothing(server: Server, condery: Run, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    wrong = condery("login", server.address, "-u", "alice", "--file", file, stdin="wrong")
    assert wrong.exit_code == 1
    assert "says 401: these credentials are not accepted here" in wrong.stderr
    for address, said in [
        ("registry.example.org", "does not answer"),
        ("http://registry.example.org", "unencrypted"),
        ("ftp://registry.example.org", "is no server"),
        ("registry.example.org/team", "is no server"),
        ("user@registry.example.org", "is no server"),
        ("a:b:c", "is no server"),
    ]:
        done = condery("login", address, "-u", "alice", "--file", file, stdin="wrong")
        assert done.exit_code > 0
        assert said in done.stderr, (address, done.stderr)
    assert not file.exists()
    file.write_text("{")
    assert "is no JSON document" in condery("login", server.address, "-u", "alice", "--file", file, stdin="x").stderr


def test_tokens_are_made_limited_listed_and_revoked(condery: Run, tmp_path: Path) -> None:
    def run(*line: object, code: int = 0) -> Any:
        done = condery(*line, "--data-dir", tmp_path / "data", stdin=PASSWORD)
        assert done.exit_code == code, done.stderr
        return done

    run("user", "add", "alice", "--admin")
    run("user", "add", "bob")
    run("robot", "add", "ci", "--owner", "bob")
    made = run("token", "create", "laptop", "--user", "alice", "--limit", "team/*=viewer", "--days", "3")
    assert made.stdout.startswith("condery_")
    robots = json.loads(run("token", "create", "runner", "--robot", "ci", "--json").stdout)
    for moment in ("created", "expires"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", robots[moment]), moment
    listed = run("token", "list").stdout + json.dumps(json.loads(run("token", "list", "--json").stdout))
    assert made.stdout.strip() not in listed
    assert robots["token"] not in listed
    rows = json.loads(run("token", "list", "--user", "alice", "--json").stdout)
    assert [(row["owner"], row["name"], row["limits"]) for row in rows] == [("alice", "laptop", ["team/*=viewer"])]
    run("token", "revoke", robots["id"])
    assert "there is no access token" in run("token", "revoke", robots["id"], code=1).stderr
    assert "say whose token" in run("token", "create", "x", code=2).stderr
    assert "ci is a robot" in run("token", "create", "x", "--user", "ci", code=2).stderr
    assert "--days must be" in run("token", "create", "x", "--user", "bob", "--days", "0", code=2).stderr
    refused = run("token", "create", "x", "--user", "bob", "--days", "9999", code=2).stderr
    assert "--days can be at most 365 days here (setting access_token_days)" in refused
    assert "you gave both" in run("token", "create", "x", "--user", "bob", "--robot", "ci", code=2).stderr
    refused = run("token", "revoke", "nope", code=1).stderr
    assert "there is no access token 'nope'; condery token list shows them" in refused
    run("token", "create", "x", "--user", "bob", "--limit", "team/*=editor", code=1)
    assert [row["name"] for row in json.loads(run("token", "list", "--ended", "--json").stdout)] == ["laptop", "runner"]
