"""`condery explain` of environments' images, of images made with other settings, and at a running server."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.support.registry.shell import Shell
from tests.support.server import StartServer

FLAGS = ("--base", "scratch", "--workers", "1", "--repodata-refresh", "0")


def test_an_environments_image_is_found_by_each_of_its_names(shell: Shell) -> None:
    # first, since loggers keep the stream of the first command that logs
    shell.write("broken", "no-such-package")
    shell("env create broken.yaml", code=1)
    assert "build 1 is FAILED" in shell("explain default/broken", code=1).stderr
    shell.write("App", "one", file="app.yaml")
    lock = shell.json("env create app.yaml")["build"]["lock"]
    shell.write("App", "one", "two", file="app.yaml")
    newest = shell.json("env create app.yaml")["build"]["lock"]
    for image in ("localhost:5000/default/app", "registry.example.org/default/app:3", "default/app:latest"):
        assert shell.json(f"explain {image}")["lock"] == newest
    assert shell.json("explain default/app:2")["lock"] == lock
    assert shell.json(f"explain default/app:lock-{lock[:12]}")["lock"] == lock
    assert "two" in shell("explain default/app").stdout
    assert "no build of it has the tag 9" in shell("explain default/app:9", code=1).stderr


@pytest.mark.parametrize("name", ["one", "two.gt.1.0", "platform.linux-64/one"])
def test_an_image_is_found_whatever_channels_the_commands_settings_name(
    shell: Shell, start_server: StartServer, small_channel: str, name: str
) -> None:
    server = start_server("--channels", small_channel, *FLAGS)
    repository = f"conda-store-dynamic/{name}"
    with urllib.request.urlopen(f"{server.url}/files/{repository}/latest/report.json") as answer:
        lock = json.loads(answer.read())["lock"].removeprefix("lock-")
    (shell.directory / "condery.toml").write_text(
        'channels = ["https://conda.example.org/a", "https://conda.example.org/b"]\nplatforms = ["linux-aarch64"]\n'
    )
    here, there = f"--data-dir {server.data_dir}", f"--server {server.address}"
    for image in (f"{server.address}/{repository}", name, f"{name}:lock-{lock[:12]}"):
        assert shell.json(f"explain {image} {here}")["lock"] == lock
        shown = shell.json(f"explain {image} {there}")
        assert (shown["lock"], list(shown["report"]["platforms"])) == (lock, ["linux-64"])
    assert "one" in shell(f"explain {name.replace('two.gt.1.0', 'one')} {there}").stdout
    assert "made for other packages" in shell(f"explain three:lock-{lock[:12]} {here}", code=1).stderr
    assert "a server only names" in shell(f"explain lock-{lock} {there}", code=2).stderr
