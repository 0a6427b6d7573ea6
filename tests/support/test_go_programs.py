"""Programs written in Go: an error says why one is not available, and a kept one is not built again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.go_programs import GoProgramUnavailable, go_program

PACKAGE = "example.org/a/program"
STAND_IN = """#!/bin/sh
if [ "$1" = version ]; then echo "go version {version} linux/amd64"; exit; fi
case "$2" in *@{served}) echo made >"$GOBIN/program" ;; *) echo "$2: not found" >&2; exit 1 ;; esac
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is searched for programs before the system's."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/bin:/usr/bin")
    return directory


def make_go(path: Path, *, version: str = "go1.24.1", served: str = "v2") -> None:
    path.joinpath("go").write_text(STAND_IN.format(version=version, served=served))
    path.joinpath("go").chmod(0o755)


def test_a_machine_without_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GoProgramUnavailable, match=r"no go on PATH; Go 1\.24 or newer is needed"):
        go_program(PACKAGE, ["v1"], tmp_path)


def test_a_go_that_is_too_old(path: Path, tmp_path: Path) -> None:
    make_go(path, version="go1.19.8")
    with pytest.raises(GoProgramUnavailable, match=r"too old \(go version go1\.19\.8"):
        go_program(PACKAGE, ["v1"], tmp_path)


def test_the_first_version_that_can_be_had_is_built_once(path: Path, tmp_path: Path) -> None:
    make_go(path)
    with pytest.raises(GoProgramUnavailable, match="not been built"):
        go_program(PACKAGE, ["v1", "v2"], tmp_path, build=False)
    program = go_program(PACKAGE, ["v1", "v2"], tmp_path)
    assert program.read_text() == "made\n"
    path.joinpath("go").unlink()
    assert go_program(PACKAGE, ["v1", "v2"], tmp_path, build=False) == program
    assert {each.name for each in tmp_path.iterdir()} == {"bin", "program@v2"}


def test_every_refusal_is_told(path: Path, tmp_path: Path) -> None:
    make_go(path, served="none")
    with pytest.raises(GoProgramUnavailable, match=r"(?s)program@v1: not found.*program@v2: not found"):
        go_program(PACKAGE, ["v1", "v2"], tmp_path)
