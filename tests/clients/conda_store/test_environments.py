"""Environments with conda-store's command line: listed, waited for, downloaded and run."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.conda_store.conftest import Store
from tests.support.conda_store import CondaStore
from tests.support.registry.people import PASSWORD

pytestmark = pytest.mark.clients

SMALL = ["tzdata"]


@pytest.fixture(scope="module")
def alice(command_line: CondaStore) -> CondaStore:
    return command_line.as_person("alice", PASSWORD)


@pytest.fixture(scope="module")
def built(made: Store, alice: CondaStore) -> int:
    """The id of the finished build of alice/analysis."""
    build = made.make("analysis", ["python", "tzdata"])
    alice.ask("wait", str(build), "--interval", "1")
    return build


def rows(client: CondaStore, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(client.ask("list", *words, "--output", "json"))
    return found


@pytest.mark.parametrize("uri", ["{build}", "alice/analysis", "alice/analysis:{build}"])
@pytest.mark.parametrize("artifact", ["build", "lockfile", "yaml", "archive", "docker"])
def test_it_waits_for_each_form_of_a_build(alice: CondaStore, built: int, uri: str, artifact: str) -> None:
    assert (
        alice.ask("wait", uri.format(build=built), "--artifact", artifact, "--timeout", "30", "--interval", "1") == ""
    )


def test_it_lists_environments_by_what_is_in_them(alice: CondaStore, built: int) -> None:
    every = rows(alice, "environment")
    [ours] = [each for each in every if each["name"] == "analysis"]
    assert (ours["namespace"]["name"], ours["current_build_id"]) == ("alice", built)
    assert "analysis" in alice.ask("list", "environment")
    for words, found in (
        (("--status", "COMPLETED"), True),
        (("--status", "FAILED"), False),
        (("--artifact", "LOCKFILE"), True),
        (("--package", "python"), True),
        (("--package", "python", "--package", "tzdata"), True),
        (("--package", "python", "--package", "numpy"), False),
        (("--status", "COMPLETED", "--package", "tzdata"), True),
    ):
        assert (ours["id"] in [each["id"] for each in rows(alice, "environment", *words)]) == found, words


def test_it_lists_builds_with_their_sizes(alice: CondaStore, built: int) -> None:
    [ours] = [each for each in rows(alice, "build", "--status", "COMPLETED") if each["id"] == built]
    assert ours["status"] == "COMPLETED"
    assert ours["size"][-1] == "B"
    assert not ours["size"].startswith("0")
    assert "Status" in alice.ask("list", "build", "--package", "python", "--artifact", "YAML")


def test_lists_of_nothing_end(alice: CondaStore, built: int) -> None:
    """It divides `count` by `size`."""
    for what in ("build", "environment"):
        assert rows(alice, what, "--package", "nothing-has-it") == []


def test_it_lists_namespaces(alice: CondaStore, made: Store, built: int) -> None:
    before = [each["name"] for each in rows(alice, "namespace")]
    assert "alice" in before
    for number in range(3):
        made.make("listed", SMALL, f"listed-{number}")
    found = [each["name"] for each in rows(alice, "namespace")]
    assert sorted(found) == sorted([*before, "listed-0", "listed-1", "listed-2"])
    assert "listed-1" in alice.ask("list", "namespace")


def test_a_hundred_and_one_environments_are_listed_once(alice: CondaStore, made: Store) -> None:
    """It asks for the same page until it has all rows, so an answer of a hundred would have it ask for ever."""
    names = {f"many-{number}" for number in range(101)}
    for name in names:
        made.make(name, SMALL)
    found = [each["name"] for each in rows(alice, "environment") if each["name"] in names]
    assert sorted(found) == sorted(names)
    assert len({each["id"] for each in rows(alice, "build")}) >= 101


def test_it_downloads_each_form(alice: CondaStore, built: int, tmp_path: Path) -> None:
    lock = yaml.safe_load(download(alice, tmp_path, "lockfile", "alice/analysis"))
    assert {"python", "tzdata"} <= {each["name"] for each in lock["package"]}
    written = yaml.safe_load(download(alice, tmp_path, "yaml", f"alice/analysis:{built}"))
    assert any(str(each).startswith("python=") for each in written["dependencies"])
    assert download(alice, tmp_path, "logs", str(built)).strip()
    download(alice, tmp_path, "archive", str(built))
    with tarfile.open(tmp_path / "archive") as archive:
        assert {"bin/activate", "bin/conda-unpack"} <= {name.removeprefix("./") for name in archive.getnames()}


def download(client: CondaStore, directory: Path, artifact: str, uri: str) -> bytes:
    client.ask("download", uri, "--artifact", artifact, "--output-filename", artifact, directory=directory)
    return (directory / artifact).read_bytes()


def test_it_runs_a_command_in_an_environment(alice: CondaStore, built: int) -> None:
    shown = alice.ask("run", "--no-cache", "alice/analysis", "--", "python", "-c", "import sys; print(sys.prefix)")
    assert "/bin" not in shown
    assert shown.strip()


def test_it_solves_a_file(alice: CondaStore, tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    file.write_text("channels: []\ndependencies: [numpy, tzdata]\n")
    packages = json.loads(alice.ask("solve", str(file), "--output", "json"))
    assert {"numpy", "tzdata", "python"} <= {each["name"] for each in packages}
    assert "Total Size" in alice.ask("solve", str(file))


def test_it_is_told_that_a_build_failed(alice: CondaStore, made: Store) -> None:
    build = made.make("broken", ["no-package-has-this-name"])
    assert f"Build {build} failed" in alice.refused("wait", str(build), "--interval", "1", "--timeout", "60")
    assert build in [each["id"] for each in rows(alice, "build", "--status", "FAILED")]


def test_nobody_sees_what_they_may_not(command_line: CondaStore, built: int) -> None:
    assert rows(command_line, "environment") == []
    assert rows(command_line, "build") == []
    for words in (["wait", str(built)], ["download", "alice/analysis", "--output-filename", "none"]):
        assert "Error getting" in command_line.refused(*words)
