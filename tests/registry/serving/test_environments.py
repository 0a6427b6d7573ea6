"""What the programs that a server starts inherit: no variable with a secret."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from registry.settings.model import all_settings
from registry.settings.secrecy import is_secret
from storage.vault.key_text import new_key
from tests.support.server import StartServer

MARK = "sesame"
VARIABLES = {
    "CONDERY_VAULT_KEYS": new_key(),
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}-of-the-bucket",
    "AWS_SESSION_TOKEN": f"{MARK}-of-the-session",
    "GITHUB_TOKEN": f"{MARK}-of-ci",
    "NO_SUCH_PROXY": f"http://user:{MARK}@proxy.example.org:3128",
}


def environment_of(process: psutil.Process) -> bytes:
    return Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.mark.parametrize("flags", [(), ("--processes", "2")])
def test_no_process_of_a_server_inherits_a_secret(
    start_server: StartServer, sample_channel: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HARMLESS", "it is inherited")
    server = start_server("--channels", sample_channel.as_uri(), "--base", "scratch", "--workers", "1", *flags)
    # it solves and builds, in processes of its own
    image = f"{server.url}/v2/conda-store-dynamic/tzdata/manifests/latest"
    with urllib.request.urlopen(image, timeout=240) as answer:
        assert answer.read()
    main = psutil.Process(server.process.pid)
    assert MARK.encode() in environment_of(main), "what it was started with"
    children = main.children(recursive=True)
    commands = " ".join(" ".join(each.cmdline()) for each in children)
    for kind in ("builder.solve.process", "forkserver", "resource_tracker", *(["spawn_main"] if flags else [])):
        assert kind in commands
    for each in children:
        found = environment_of(each)
        assert b"HARMLESS=it is inherited" in found
        for name, value in VARIABLES.items():
            assert value.encode() not in found or name == "AWS_ACCESS_KEY_ID", (name, each.cmdline())
    # each has read its settings all the same, or it could not open what the first one has encrypted
    server.restart()
    with urllib.request.urlopen(f"{server.url}/readyz", timeout=60) as answer:
        assert answer.status == 200


def test_every_secret_setting_is_hidden() -> None:
    secret = [setting.variable for setting in all_settings() if setting.is_secret]
    assert "CONDERY_VAULT_KEYS" in secret
    for variable in secret:
        # what a secret setting holds beside words that are secret is a URL
        assert is_secret(variable, "postgresql://user:word@host/name"), variable


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("CONDERY_DATABASE", "postgresql://condery:word@db/condery", True),
        ("CONDERY_DATABASE", "sqlite:////srv/condery.sqlite", False),
        ("HTTPS_PROXY", "http://user:word@proxy:3128", True),
        ("HTTPS_PROXY", "http://proxy:3128", False),
        ("registry_password", "x", True),
        ("PGPASSWORD", "x", False),
        ("SOME_API_KEY", "x", True),
        ("PATH", "/usr/bin", False),
        ("LANG", "C.UTF-8", False),
    ],
)
def test_what_may_be_a_secret(name: str, value: str, hidden: bool) -> None:
    assert is_secret(name, value) is hidden


def test_the_process_itself_keeps_what_it_hides() -> None:
    program = """
import os, subprocess, sys
from registry.settings.secrecy import hidden_variables, hide_secrets
hide_secrets({"GIVEN_TOKEN": "given"})
assert os.environ["KEPT_TOKEN"] == "kept"
assert hidden_variables() == {"KEPT_TOKEN": "kept", "GIVEN_TOKEN": "given"}
print(subprocess.run(["env"], capture_output=True, text=True).stdout)
"""
    variables = {"PATH": os.environ["PATH"], "KEPT_TOKEN": "kept", "PLAIN": "plain"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert "PLAIN=plain" in done.stdout
    assert "TOKEN" not in done.stdout
