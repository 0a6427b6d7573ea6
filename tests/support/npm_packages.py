"""Packages of npm, installed once and kept. Nothing that they bring is run while they are installed."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.sample import CACHE

INSTALL_SECONDS = 300


class NpmPackageUnavailable(Exception):
    """Why it is not available here."""


def npm_package(package: str, cache: Path = CACHE / "npm") -> Path:
    """The folder `node_modules` with `package`, which is a name and a version, and all that it needs.

    Raises NpmPackageUnavailable.
    """
    options = ("--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts")
    return _keep(cache / package, lambda place: _npm("install", "--prefix", place, *options, package)) / "node_modules"


def npm_files(package: str, cache: Path = CACHE / "npm-files") -> Path:
    """The files of `package`, and nothing that it needs. Raises NpmPackageUnavailable."""

    def unpack(place: Path) -> None:
        _npm("pack", "--pack-destination", place, package)
        [archive] = place.glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(place, filter="data")
        archive.unlink()

    return _keep(cache / package.replace("/", "+"), unpack) / "package"


def _keep(place: Path, install: Callable[[Path], None]) -> Path:
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    # others may install it at the same time, so it appears whole
    with tempfile.TemporaryDirectory(dir=place.parent) as directory:
        install(Path(directory))
        try:
            shutil.move(directory, place)
        except OSError:
            assert place.exists(), "somebody else has installed it"
        else:
            Path(directory).mkdir()
    return place


def _npm(*words: str | Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NpmPackageUnavailable("node and npm are not installed")
    done = subprocess.run(["npm", *words], capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise NpmPackageUnavailable(f"npm {' '.join(map(str, words))}: {done.stderr.strip()[:500]}")
