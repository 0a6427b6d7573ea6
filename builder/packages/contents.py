"""What a package puts where under the prefix.

One `PackageContents` has its files as columns, not as objects: a build loads some 150 of them with 50 000 paths, and
that has to take tens of milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

from builder.archives.archive import Limits, Part
from builder.errors import PackageRefused
from builder.locks.lock import LockedPackage
from builder.packages.paths import check_paths, list_directories
from builder.packages.prefix import Mode

PathKind = Literal["file", "softlink", "directory"]

_OUTLINE = frozenset(
    [
        "etc",
        "etc/conda",
        "etc/conda/env_vars.d",
        "etc/conda/activate.d",
        "conda-meta",
        "conda-meta/state",
        "bin/bash",
        "bin/dash",
        "bin/sh",
    ]
)
"""Paths under the prefix that decide how a container starts."""


@dataclass(frozen=True)
class PythonLayout:
    """Where noarch python packages go: the interpreter's `X.Y` and its site-packages under the prefix."""

    version: str
    site_packages: str

    @classmethod
    def of(cls, python: LockedPackage) -> Self:
        """The layout of a `python` package (CEP 17); raises PackageRefused for a record that makes no sense."""
        match = re.match(r"(\d+)\.(\d+)", python.version)
        if not match:
            raise PackageRefused(str(python), f"its version {python.version!r} does not begin with two numbers")
        version = f"{match[1]}.{match[2]}"
        site_packages = (python.python_site_packages_path or f"lib/python{version}/site-packages").rstrip("/")
        if len(f"{version}{site_packages}") > 200:
            raise PackageRefused(str(python), "its version and its python_site_packages_path are too long for a path")
        check_paths(str(python), [site_packages])
        return cls(version, site_packages)

    @classmethod
    def among(cls, packages: Iterable[LockedPackage]) -> Self | None:
        """That of an environment's python, where it has one; raises PackageRefused likewise."""
        return next((cls.of(package) for package in packages if package.name == "python"), None)


class EntryPoint(NamedTuple):
    """A command of a noarch python package: `bin/<command>` calls `function` of `module`."""

    command: str
    module: str
    function: str


class Placeholder(NamedTuple):
    text: str
    mode: Mode


class ContentPath(NamedTuple):
    """One path of a package, as a row; size in bytes and hexadecimal sha256 are as packaged, before any replacement."""

    source: str
    target: str
    kind: PathKind
    size: int | None
    sha256: str | None
    placeholder: Placeholder | None
    no_link: bool


@dataclass(frozen=True)
class PackageContents:
    """A package's paths in columns of equal length, and what else its `info/` says.

    `sources` are members of the archive, `targets` the same under the prefix (different for noarch python).
    """

    package: str
    """`name-version-build`, for messages."""
    sources: Sequence[str]
    targets: Sequence[str]
    kinds: str
    """One letter a path: `f`ile, `s`oftlink, `d`irectory."""
    sizes: Sequence[int | None]
    sha256: Sequence[str | None]
    placeholders: dict[int, Placeholder]
    """By the path's index; never of a softlink or a directory."""
    no_link: frozenset[int]
    directories: Sequence[str]
    """Every directory its paths need, parents first, without the prefix itself."""
    entry_points: Sequence[EntryPoint]
    link_scripts: Sequence[str]
    """Scripts that conda would run when it links the package, under the prefix. condery never runs them."""
    timestamp: int
    """When the package was made, seconds UTC."""
    noarch: str | None
    """`python`, `generic` or None, as the archive itself says."""
    parts: Sequence[Part] = ("pkg",)
    """Tars of the archive that hold what is installed."""
    python: PythonLayout | None = None
    """What `targets` and entry points were made for; None unless `noarch` is `python`."""

    def paths(self) -> Iterator[ContentPath]:
        kinds: dict[str, PathKind] = {"f": "file", "s": "softlink", "d": "directory"}
        for index, (source, target) in enumerate(zip(self.sources, self.targets, strict=True)):
            yield ContentPath(
                source,
                target,
                kinds[self.kinds[index]],
                self.sizes[index],
                self.sha256[index],
                self.placeholders.get(index),
                index in self.no_link,
            )

    def installed(self) -> list[str]:
        """Paths under the prefix of all that is not a directory, entry points last."""
        paths: list[str]
        if "d" in self.kinds:
            paths = [target for target, kind in zip(self.targets, self.kinds, strict=True) if kind != "d"]
        else:
            paths = list(self.targets)
        paths += (f"bin/{entry.command}" for entry in self.entry_points)
        return paths

    def outline(self) -> Self:
        """Without most of its columns, which are too much to be passed between processes.

        Of `targets` and `directories` those are left that decide how a container starts.
        """
        return replace(
            self,
            sources=(),
            targets=sorted(_OUTLINE.intersection(self.targets)),
            kinds="",
            sizes=(),
            sha256=(),
            placeholders={},
            no_link=frozenset(),
            directories=sorted(_OUTLINE.intersection(self.directories)),
            entry_points=(),
        )


def place(contents: PackageContents, python: PythonLayout | None, limits: Limits) -> PackageContents:
    """The contents with noarch python's paths moved to where `python` looks for them."""
    if contents.noarch != "python":
        return contents
    if python is None:
        raise PackageRefused(
            contents.package, "it is a noarch python package, and no python is in the environment; ask for python too"
        )
    site = f"{python.site_packages}/"
    targets = [
        site + source[14:]
        if source.startswith("site-packages/")
        else f"bin/{source[15:]}"
        if source.startswith("python-scripts/")
        else source
        for source in contents.sources
    ]
    placed = replace(contents, targets=targets, python=python)
    directories = list_directories(contents.package, targets, contents.kinds, bool(contents.entry_points), limits)
    return replace(placed, directories=directories)
