"""Programs written in Go, built from the module proxy once and kept."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.sample import CACHE

OLDEST_GO = (1, 24)
BUILD_SECONDS = 1800


class GoProgramUnavailable(Exception):
    """Why a program is not available here."""


def go_program(package: str, versions: Sequence[str], cache: Path = CACHE / "go", *, build: bool = True) -> Path:
    """The first of `versions` of `package` that is kept below `cache` or, if it may take minutes, can be built.

    Raises GoProgramUnavailable.
    """
    name = package.rpartition("/")[2]
    programs = [cache / f"{name}@{version}" / name for version in versions]
    for program in programs:
        if program.exists():
            return program
    if not build:
        raise GoProgramUnavailable(f"{name} has not been built yet")
    go = _go()
    refusals = []
    for program, version in zip(programs, versions, strict=True):
        try:
            _install(go, f"{package}@{version}", program)
        except GoProgramUnavailable as error:
            refusals.append(str(error))
        else:
            return program
    raise GoProgramUnavailable("\n".join(refusals))


def _install(go: str, package: str, program: Path) -> None:
    program.parent.parent.mkdir(parents=True, exist_ok=True)
    # others may be building it at the same time, so it appears whole
    with tempfile.TemporaryDirectory(dir=program.parent.parent) as directory:
        environment = {**os.environ, "GOBIN": directory}
        command = [go, "install", package]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise GoProgramUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
        program.parent.mkdir(exist_ok=True)
        Path(directory, program.name).replace(program)


def _go() -> str:
    oldest = ".".join(map(str, OLDEST_GO))
    go = shutil.which("go")
    if not go:
        raise GoProgramUnavailable(f"there is no go on PATH; Go {oldest} or newer is needed")
    said = subprocess.run([go, "version"], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    if not found or (int(found[1]), int(found[2])) < OLDEST_GO:
        raise GoProgramUnavailable(f"{go} is too old ({said.strip()}); Go {oldest} or newer is needed")
    return go
