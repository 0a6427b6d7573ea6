"""`condery env export` and `condery env import`."""

from __future__ import annotations

from tests.support.registry.shell import Shell


def test_an_environment_goes_to_another_data_directory(shell: Shell) -> None:
    shell.write("app", "one", "two=1.0")
    shell("env create app.yaml --namespace team")
    shell.write("app", "three")
    shell("env create app.yaml --namespace team")
    shell("env rollback team/app")

    assert "archive.tar: 2 builds of team/app" in shell("env export team/app archive.tar").stdout
    made = shell.json("env export app plan --namespace team --no-bytes --builds current")
    assert (made["path"], made["builds"]) == ("plan", 1)

    moved = shell("env import archive.tar --data-dir other").stdout.splitlines()
    assert moved[0].startswith("build 1 of team/app, the current one was build 1 of team/app: COMPLETED")
    assert moved[1].startswith("build 2 of team/app was build 2 of team/app: COMPLETED")
    (again,) = shell.json("env import plan --namespace lab --name old --data-dir other")
    assert (again["environment"], again["status"], again["is_current"]) == ("lab/old", "COMPLETED", True)
    assert again["info"] == "imported from build 1 of team/app, and made again with the same digest"
    (left,) = shell.json("env import archive.tar --namespace lab --rebuild --no-wait --builds 2 --data-dir other")
    assert left["status"] == "QUEUED"
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
