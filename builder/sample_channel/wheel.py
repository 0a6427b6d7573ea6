"""Reads a wheel: its metadata, and where each of its files goes (binary distribution format, PEP 427)."""

from __future__ import annotations

import calendar
import hashlib
import importlib.metadata
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from builder.errors import SampleChannelFailed
from builder.sample_channel.package import OLDEST

Scheme = Literal["site-packages", "scripts", "data", "headers"]
_SCHEMES: Mapping[str, Scheme] = {
    "purelib": "site-packages",
    "platlib": "site-packages",
    "scripts": "scripts",
    "data": "data",
    "headers": "headers",
}
_MANYLINUX_ALIASES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_LONGEST_LICENSE = 80


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file of a wheel and its place in an installation scheme."""

    member: str
    scheme: Scheme
    path: str
    mtime: int
    executable: bool


@dataclass(frozen=True)
class Wheel:
    """A wheel file on disk."""

    path: Path
    name: str
    """PEP 503 name."""
    version: Version
    tags: frozenset[Tag]

    @classmethod
    def at(cls, path: Path) -> Wheel:
        """Read the wheel at `path`. Raises SampleChannelFailed if its name is not a wheel's."""
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename as error:
            raise SampleChannelFailed(f"{path.name} is not a wheel: {error}") from error
        return cls(path, name, version, tags)

    @cached_property
    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def pure(self) -> bool:
        """Whether it fits every platform and any Python of a major version."""
        return all(
            tag.platform == "any" and tag.abi == "none" and tag.interpreter.startswith("py") for tag in self.tags
        )

    @property
    def glibc(self) -> tuple[int, int] | None:
        """The oldest glibc that it claims to run with (PEP 600)."""
        versions = []
        for tag in self.tags:
            kind, _, rest = tag.platform.partition("_")
            if kind in _MANYLINUX_ALIASES:
                versions.append(_MANYLINUX_ALIASES[kind])
            elif kind == "manylinux":
                major, minor, *_ = rest.split("_")
                versions.append((int(major), int(minor)))
        return min(versions, default=None)

    @cached_property
    def metadata(self) -> importlib.metadata.Distribution:
        """METADATA and entry_points.txt, as read by importlib."""
        with zipfile.ZipFile(self.path) as archive:
            members = {name: f"{self.information}/{name}" for name in ("METADATA", "entry_points.txt")}
            present = set(archive.namelist())
            texts = {name: archive.read(member).decode() for name, member in members.items() if member in present}
        return _Information(texts)

    @cached_property
    def requires(self) -> tuple[Requirement, ...]:
        return tuple(Requirement(text) for text in self.metadata.requires or ())

    @property
    def requires_python(self) -> SpecifierSet:
        return SpecifierSet(self.read_field("Requires-Python") or "")

    def read_field(self, name: str) -> str | None:
        """Return the first value of a field of METADATA."""
        values = self.metadata.metadata.get_all(name)
        return values[0] if values else None

    @property
    def license(self) -> str | None:
        """The SPDX expression, else a short licence text, else the licences in the classifiers."""
        given = self.read_field("License-Expression") or self.read_field("License") or ""
        if given and "\n" not in given and len(given) <= _LONGEST_LICENSE and given != "UNKNOWN":
            return given
        classifiers = self.metadata.metadata.get_all("Classifier") or ()
        names = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: ")]
        return " AND ".join(names) or None

    @cached_property
    def entry_points(self) -> tuple[str, ...]:
        """`command = module:function` for each script, sorted."""
        return tuple(
            sorted(
                f"{point.name} = {point.value.partition('[')[0].strip()}"
                for point in self.metadata.entry_points
                if point.group in ("console_scripts", "gui_scripts") and ":" in point.value
            )
        )

    @cached_property
    def timestamp(self) -> int:
        """Time of the newest member, in seconds since 1970."""
        return max((file.mtime for file in self.files), default=OLDEST)

    @cached_property
    def information(self) -> str:
        """The folder `name-version.dist-info`, as spelled in the wheel."""
        with zipfile.ZipFile(self.path) as archive:
            return self._find_information_folder(archive.namelist())

    @cached_property
    def files(self) -> tuple[WheelFile, ...]:
        """All files, sorted by member name."""
        with zipfile.ZipFile(self.path) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.filename)
        return tuple(self._read_file(info) for info in infos if not info.is_dir())

    def read_licenses(self) -> Mapping[str, bytes]:
        """Read the licence files in the dist-info folder, by path below it."""
        beginnings = ("license", "licence", "copying", "notice")
        found = {}
        with zipfile.ZipFile(self.path) as archive:
            for file in self.files:
                folder, _, rest = file.member.partition("/")
                if folder == self.information and rest.lower().startswith(beginnings):
                    found[rest.removeprefix("licenses/")] = archive.read(file.member)
        return found

    def _read_file(self, info: zipfile.ZipInfo) -> WheelFile:
        first, _, rest = info.filename.partition("/")
        scheme: Scheme = "site-packages"
        path = info.filename
        if first.endswith(".data") and first.removesuffix(".data") == self.information.removesuffix(".dist-info"):
            kind, _, path = rest.partition("/")
            if kind not in _SCHEMES:
                raise SampleChannelFailed(f"{self.path.name}: unknown scheme in {info.filename}")
            scheme = _SCHEMES[kind]
        if path.startswith("/") or ".." in path.split("/"):
            raise SampleChannelFailed(f"{self.path.name}: {info.filename} leads out of the environment")
        executable = scheme == "scripts" or bool(info.external_attr >> 16 & 0o111)
        return WheelFile(info.filename, scheme, path, max(calendar.timegm(info.date_time), OLDEST), executable)

    def _find_information_folder(self, names: list[str]) -> str:
        for folder in _list_folders(names):
            stem = folder.removesuffix(".dist-info")
            if stem != folder and canonicalize_name(stem.partition("-")[0]) == self.name:
                return folder
        raise SampleChannelFailed(f"{self.path.name} has no .dist-info folder")


class _Information(importlib.metadata.Distribution):
    """A distribution whose files are texts in memory."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def read_text(self, filename: str) -> str | None:
        return self._texts.get(filename)

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        raise NotImplementedError("the files are in a wheel")


def _list_folders(names: list[str]) -> Iterator[str]:
    yield from dict.fromkeys(name.partition("/")[0] for name in names)
