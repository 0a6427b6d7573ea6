"""The same commands at a running server, which is a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.registry.commands import run_line
from tests.support.registry.shell import Shell
from tests.support.server import Server, StartServer
from tests.support.servers.channel_server import ChannelServer, in_a_thread

FLAGS = ("--base", "scratch", "--workers", "1", "--repodata-refresh", "0")
PASSWORD = "correct-horse-battery"


@pytest.fixture
def server(start_server: StartServer, small_channel: str) -> Server:
    return start_server("--channels", small_channel, *FLAGS)


def test_an_environment_has_its_whole_life_at_a_server(
    shell: Shell, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("Analysis", "one", "two=1.0", file="analysis.yaml")
    made = shell(f"env create analysis.yaml --server {server.address} --description text")
    assert made.stdout == f"{server.address}/default/analysis:1\n"
    assert f"It goes on at {server.address}." in made.stderr
    monkeypatch.setenv("CONDERY_SERVER", server.address)
    log = shell("build logs -f 1").stdout
    assert log.splitlines()[-1].endswith("COMPLETED")
    assert shell("build logs default/Analysis").stdout == log

    shell.write("Analysis", "two", "three", file="analysis.yaml")
    asked = shell("env update Analysis analysis.yaml --wait --json")
    assert json.loads(asked.stdout)["build"]["status"] == "COMPLETED"
    assert asked.stderr == ""

    shown = shell.json("env show Analysis")
    assert shown["description"] == "text"
    assert shown["current"]["id"] == 2
    assert shown["builds"][0]["changes"] == {
        "against": 1,
        "added": [{"name": "three", "version": "1.0"}],
        "removed": [],
        "changed": [{"name": "two", "from": "1.0", "to": "2.0"}],
    }
    assert shown["files"]["pixi.lock"] == f"{server.url}/files/default/analysis/latest/pixi.lock"
    assert [each["name"] for each in shell.json("build show 2")["packages"]] == ["one", "three", "two"]

    assert "build 1 is the current build of default/Analysis now" in shell("env rollback Analysis").stdout
    shell("env update Analysis --description other")
    (listed,) = shell.json("env list --package one --package two")
    assert (listed["current_build"], listed["last_build"], listed["description"]) == (1, 2, "other")
    assert [(each["id"], each["environment"]) for each in shell.json("build list")] == [
        (2, "default/Analysis"),
        (1, "default/Analysis"),
    ]
    assert "says 409" in shell("build cancel 1", code=1).stderr
    shell.write("broken", "no-such-package")
    failed = shell("env create broken.yaml --wait", code=1)
    assert "no-such-package" in failed.stderr.splitlines()[-1]
    assert shell.json("build show Analysis")["specification"]["dependencies"] == ["two", "three"]
    shown = shell("env show Analysis").stdout
    assert f"asked for:     dependencies: one, two=1.0\n               channels: {shell.channel}\n" in shown
    assert "last build:    2, COMPLETED" in shown
    shell("env delete Analysis")
    assert "says 404" in shell("env show Analysis", code=1).stderr
    assert not (shell.directory / "data").exists()


def test_the_store_of_a_running_server_is_worked_on_beside_it(
    shell: Shell, start_server: StartServer, small_channel: str, tmp_path: Path
) -> None:
    """Its builds are rows, which whoever is first takes; the server goes on with what the command leaves."""
    other = f"file://{shutil.copytree(small_channel.removeprefix('file://'), tmp_path / 'other')}"
    server = start_server("--channels", small_channel, "--allowed-channels", other, *FLAGS)
    shell.write("app", "one")
    here, there = f"--data-dir {server.data_dir}", f"--server {server.address}"
    assert shell(f"env create app.yaml {here}").stdout.endswith("/default/app:1\n")
    assert shell.json(f"env show app {there}")["current"]["status"] == "COMPLETED"
    shell(f"env update app --no-wait {here}")
    log = shell(f"build logs -f 2 {there}").stdout
    assert log == shell(f"build logs 2 {here}").stdout
    assert log.splitlines()[-1].endswith("COMPLETED")
    # what the file leaves open is what is set for the namespace, and not what the command's own settings say
    url = f"{server.url}/api/v1/setting/default/"
    data = json.dumps({"default_channels": [other]}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()
    (tmp_path / "open.yaml").write_text("name: open\ndependencies: [one]\n")
    for place in (here, there):
        shell(f"env create open.yaml --wait {place}")
        assert {each["channel"] for each in shell.json(f"build show default/open {place}")["packages"]} == {other}
    # on a terminal
    for place in (here, there):
        screen = run_on_a_terminal(
            shell, f"env create app.yaml -n {'there' if place == there else 'here'} --wait {place}"
        )
        assert re.search(r"✓.* solve .*1 of 1", screen), screen
        assert "QUEUED" not in screen


def run_on_a_terminal(shell: Shell, line: str) -> str:
    """What a command shows whose standard error is a terminal."""
    terminal, slave = os.openpty()
    command = [sys.executable, "-m", "registry.cli", *line.split()]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=slave, stdin=slave, cwd=shell.directory, env=environment
    ) as process:
        os.close(slave)
        shown = b""
        # EIO says that nobody has the other end any more
        with contextlib.suppress(OSError):
            while piece := os.read(terminal, 1 << 16):
                shown += piece
    os.close(terminal)
    assert process.returncode == 0, shown
    return shown.decode()


def test_a_server_with_accounts_takes_a_token_and_says_how_to_sign_in(
    shell: Shell, start_server: StartServer, small_channel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    run_line(data, "user add ann", f"{PASSWORD}\n")
    token = run_line(data, "token create test --user ann")
    server = start_server("--channels", small_channel, *FLAGS, data_dir=data)
    monkeypatch.setenv("CONDERY_SERVER", server.address)
    shell.write("app", "one")
    refused = shell("env create app.yaml", code=1).stderr
    assert "says 401" in refused
    assert refused.count("sign in") == 1
    assert f"sign in with `condery login {server.address}`, or set CONDERY_TOKEN" in refused
    monkeypatch.setenv("CONDERY_TOKEN", f"{token}x")
    assert token not in shell("env create app.yaml", code=1).stderr

    monkeypatch.setenv("CONDERY_TOKEN", token)
    assert shell("env create app.yaml --wait").stdout == f"{server.address}/ann/app:1\n"
    assert "says 403" in shell("env create app.yaml -n team", code=1).stderr

    made = shell.json("token create laptop --limit ann/*=viewer --days 3")
    assert (made["owner"], made["name"], made["bindings"]) == ("ann", "laptop", ["ann/*=viewer"])
    listed = shell.json("token list")
    assert [(each["name"], each["limits"]) for each in listed] == [
        *(("test", "everything"), ("laptop", ["ann/*=viewer"]))
    ]
    text = shell("token list").stdout
    assert all(each["id"] in text for each in listed)
    assert made["token"] not in text
    assert "--user: a server has tokens of whoever asks" in shell("token create x --user bob", code=2).stderr
    monkeypatch.setenv("CONDERY_TOKEN", made["token"])
    assert "may not" in shell("env delete ann/app", code=1).stderr
    monkeypatch.setenv("CONDERY_TOKEN", token)
    assert "the token is revoked" in shell(f"token revoke {made['id']}").stdout
    assert [each["name"] for each in shell.json("token list")] == ["test"]
    assert "says 404" in shell(f"token revoke {made['id']}", code=1).stderr
    assert [each["name"] for each in shell.json(f"token list --server= --data-dir {data}")] == ["test"]
    monkeypatch.delenv("CONDERY_TOKEN")
    assert "or set CONDERY_TOKEN" in shell("env delete ann/app", code=1).stderr
    shell(f"login {server.address} --user ann", stdin=f"{PASSWORD}\n")
    assert "ann/app is deleted" in shell("env delete app").stdout


@pytest.mark.parametrize("where", ["here", "there"])
def test_whoever_breaks_off_is_told_that_the_build_goes_on(
    shell: Shell, start_server: StartServer, small_channel: str, tmp_path: Path, where: str
) -> None:
    with in_a_thread(ChannelServer(Path(small_channel.removeprefix("file://")))) as channel:
        held = channel.hold("three-1.0-0.conda")
        server = start_server("--channels", channel.url, *FLAGS) if where == "there" else None
        place = ["--server", server.address] if server else ["--data-dir", str(tmp_path / "data")]
        (tmp_path / "app.yaml").write_text(f"name: app\nchannels: [{channel.url}]\ndependencies: [three]\n")
        command = [sys.executable, "-m", "registry.cli", "env", "create", "app.yaml", "--wait", *place]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ
        )
        assert held.reached.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        assert "condery build logs -f 1" in err.splitlines()[-1]
        assert "Traceback" not in err
        (build,) = shell.json(f"build list {' '.join(place)}")
        assert build["status"] == "BUILDING"
        held.released.set()
    if server is not None:
        assert shell(f"build logs -f 1 {' '.join(place)}").stdout.splitlines()[-1].endswith("COMPLETED")
