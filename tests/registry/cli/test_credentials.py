"""`condery credential` and `condery vault`: what they store, say, and never show."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
SECRET = "hunter2-secret"
URL = "https://conda.example.org/team"


@pytest.fixture
def run(condery: Run, tmp_path: Path) -> Run:
    """A command on a store of the test's own, which has the namespace team; fails for another exit code than `code`."""

    def run(line: str, *more: object, code: int = 0, stdin: str = "") -> Any:
        done = condery(*line.split(), *more, stdin=stdin)
        assert done.exit_code == code, (line, done.stdout, done.stderr)
        assert SECRET not in done.stdout + done.stderr
        return done

    (tmp_path / "condery.toml").write_text('data_directory = "data"\nvault_key_file = "keys"\n')
    (tmp_path / "keys").write_text(run("vault new-key").stdout)
    run("namespace create team")
    return run


def test_a_credential_is_set_listed_and_removed(run: Run, tmp_path: Path) -> None:
    run(f"credential set team {URL} --username me", stdin=f"{SECRET}\n")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    run("credential set conda-store-dynamic https://conda.anaconda.org --conda-token --secret-file secret")
    told = run("credential set mirror ghcr.io --username me", stdin=SECRET)
    assert "the setting mirrors does not name ghcr.io yet" in told.stderr
    listed = json.loads(run("credential list --json").stdout)
    assert [(each["namespace"], each["address"], each["sent_as"], each["username"]) for each in listed] == [
        ("conda-store-dynamic", "https://conda.anaconda.org/", "conda-token", ""),
        ("mirror", "ghcr.io", "basic", "me"),
        ("team", f"{URL}/", "basic", "me"),
    ]
    assert SECRET.encode() not in (tmp_path / "data" / "condery.sqlite").read_bytes()
    run(f"credential remove team {URL}/")
    assert "namespace team has no credential" in run(f"credential remove team {URL}", code=1).stderr
    actions = [each["action"] for each in json.loads(run("audit --json").stdout)["events"]]
    assert actions[:4] == ["credential.remove", *["credential.set"] * 3]


def test_a_secret_is_no_argument(run: Run) -> None:
    run(f"credential set team {URL} a-secret", code=2)
    assert "no secret was given" in run(f"credential set team {URL}", code=2).stderr


def test_without_a_key_it_says_what_to_set(run: Run, tmp_path: Path) -> None:
    (tmp_path / "condery.toml").write_text('data_directory = "data"\n')
    refused = run(f"credential set team {URL}", code=1, stdin=SECRET)
    assert "condery vault new-key, and set vault_key_file" in refused.stderr
    assert "set vault_key_file" in run("vault rotate", code=1).stderr


def test_a_secret_is_taken_whole_or_not_at_all(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    longest = chr(0x1F511) * 4096
    file.write_text(f"{longest}\n", encoding="utf-8")
    run(f"credential set team {URL} --username me --secret-file {file}")
    for text in ("x" * 32_769, "short enough\n" + "#" * 40_000):
        file.write_text(text)
        refused = run(f"credential set team {URL} --secret-file {file}", code=2)
        assert "the secret is too long: it has more than 32768 bytes" in refused.stderr
        assert "the secret is too long" in run(f"credential set team {URL}", code=2, stdin=text).stderr
    assert "the secret must have" in run(f"credential set team {URL}", code=1, stdin="x" * 6000).stderr


def test_keys_have_no_flag(run: Run) -> None:
    assert "--vault-keys" in run("vault rotate --vault-keys x", code=2).stderr
    assert "--vault-keys" not in run("serve --help").stdout


def test_keys_are_rotated(run: Run, tmp_path: Path) -> None:
    run(f"credential set team {URL}", stdin=SECRET)
    keys = tmp_path / "keys"
    old = keys.read_text()
    keys.write_text(run("vault new-key").stdout + old)
    told = run("vault rotate").stdout
    assert told.startswith("1 credential and 0 signing keys are encrypted with the key ")
    keys.write_text(keys.read_text().splitlines()[0])
    (listed,) = json.loads(run("credential list --json").stdout)
    assert listed["sent_as"] == "bearer"
    keys.write_text(old)
    (listed,) = json.loads(run("credential list --json").stdout)
    assert listed["sent_as"] == f"needs the key {listed['key']}"
    assert "condery vault rotate --forget" in run("vault rotate", code=1).stderr
    assert "1 that could not be decrypted are deleted" in run("vault rotate --forget").stderr
    assert json.loads(run("credential list --json").stdout) == []


def test_a_server_does_not_start_without_the_key_of_what_is_stored(run: Run, tmp_path: Path) -> None:
    run(f"credential set team {URL}", stdin=SECRET)
    (tmp_path / "keys").write_text(run("vault new-key").stdout)
    config = tmp_path / "condery.toml"
    config.write_text(f'data_directory = "{tmp_path}/data"\nvault_key_file = "{tmp_path}/keys"\n')
    line = [sys.executable, "-m", "registry.cli", "serve", "--port", "0", "--base", "scratch", "--config", str(config)]
    refused = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    assert f"the credential of namespace team for {URL}/ cannot be decrypted" in refused.stderr


def test_a_namespace_takes_its_credentials_with_it(run: Run) -> None:
    run(f"credential set team {URL}", stdin=SECRET)
    run("namespace delete team")
    run("namespace create team")
    assert json.loads(run("credential list --json").stdout) == []
