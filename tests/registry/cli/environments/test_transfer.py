"""`condery env export` and `condery env import`."""

from __future__ import annotations

import contextlib
import json
import sqlite3

from storage.layout import DataDirectory
from tests.support.registry.shell import Shell


def test_an_environment_goes_to_another_data_directory(shell: Shell) -> None:
    shell.write("app", "one", "two=1.0")
    shell("env create app.yaml --namespace team")
    shell.write("app", "three")
    shell("env create app.yaml --namespace team")
    shell("env rollback team/app")
    settings = {"kept_builds": 3, "default_channels": ["https://evil.example/x"]}
    database = sqlite3.connect(DataDirectory(shell.directory / "data").database)
    with contextlib.closing(database), database:
        database.execute("INSERT INTO setting VALUES ('team', 'app', ?)", (json.dumps(settings),))

    assert "archive.tar: 2 builds of team/app" in shell("env export team/app archive.tar").stdout
    made = shell.json("env export app plan --namespace team --no-bytes --builds current")
    assert (made["path"], made["builds"]) == ("plan", 1)

    done = shell("env import archive.tar --data-dir other")
    assert "a setting of the environment is left out: default_channels[0]" in done.stderr
    assert "set for the environment: kept_builds" in done.stderr
    [event] = [
        each for each in shell.json("audit --data-dir other")["events"] if each["action"] == "environment.import"
    ]
    assert event["detail"]["settings"] == "kept_builds"
    assert "one" in shell("build logs 1 --data-dir other").stdout
    moved = done.stdout.splitlines()
    assert moved[0].startswith("build 1 of team/app, the current one was build 1 of team/app: COMPLETED")
    assert moved[1].startswith("build 2 of team/app was build 2 of team/app: COMPLETED")
    (again,) = shell.json("env import plan --namespace lab --name old --data-dir other")
    assert (again["environment"], again["status"], again["is_current"]) == ("lab/old", "COMPLETED", True)
    assert again["info"] == "imported from build 1 of team/app, and made again with the same digest"
    line = "env import archive.tar --namespace lab --rebuild --no-wait --no-settings --builds 2 --data-dir other --json"
    left = shell(line)
    assert json.loads(left.stdout)[0]["status"] == "QUEUED"
    assert "the environment's settings are left out, which were 'default_channels', 'kept_builds'" in left.stderr
    listed = shell.json("env list --data-dir other")
    assert {(each["namespace"], each["name"]) for each in listed} == {("team", "app"), ("lab", "old"), ("lab", "app")}


def test_what_cannot_be_done(shell: Shell) -> None:
    shell.write("app", "one")
    shell("env create app.yaml")
    shell("env export app archive")
    assert "there is the environment app already" in shell("env import archive", code=1).stderr
    assert "it already exists" in shell("env export app archive", code=1).stderr
    assert "there is no environment" in shell("env export none out", code=1).stderr
    assert "it is all, current, or the number of a build" in shell("env export app out --builds last", code=2).stderr
    assert "it has no build 7" in shell("env export app out --builds 7", code=1).stderr
    assert "cannot be read" in shell("env import missing", code=2).stderr
    assert "local" in shell("env import archive --namespace local", code=2).stderr
