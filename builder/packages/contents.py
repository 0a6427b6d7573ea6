"""Where a package's files go under the prefix.

A `PackageContents` holds its files as columns rather than objects: a build loads some 150 of them with 50 000 paths,
and that has to take tens of milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

from builder.archives.archive import Part
from builder.errors import PackageRefused
from builder.locks.lock import LockedPackage
from builder.packages.paths import check_paths
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
        """Return the layout of a `python` package (CEP 17). Raises PackageRefused if its record makes no sense."""
        match = re.match(r"(\d+)\.(\d+)", python.version)
        if not match:
            raise PackageRefused(str(python), f"its version {python.version!r} does not start with two numbers")
        version = f"{match[1]}.{match[2]}"
        site_packages = (python.python_site_packages_path or f"lib/python{version}/site-packages").rstrip("/")
        if len(f"{version}{site_packages}") > 200:
            raise PackageRefused(str(python), "its version and its python_site_packages_path are too long for a path")
        check_paths(str(python), [site_packages])
        return cls(version, site_packages)

    @classmethod
    def among(cls, packages: Iterable[LockedPackage]) -> Self | None:
        """Return the layout of the `python` in `packages`, or None without one. Raises PackageRefused like `of`."""
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
    """One path of a package as a row.

    The size (bytes) and the sha256 (hexadecimal) are as packaged, before any replacement.
    """

    source: str
    target: str
    kind: PathKind
    size: int | None
    sha256: str | None
    placeholder: Placeholder | None
    no_link: bool


@dataclass(frozen=True)
class WheelFacts:
    """What else there is to know of a package that is a wheel. Rows are those of the contents' columns."""

    information: str
    """Its `.dist-info` directory, without the directories above."""
    distribution: str
    """Its normalized name (PEP 503)."""
    folders: Sequence[str]
    """Directories that the wheel has members for, placed like its files; they may be empty."""
    unlisted: frozenset[int]
    """Rows that its RECORD does not have."""
    signatures: frozenset[int]
    """The same, of the files that cannot be there."""
    unsized: frozenset[int]
    """Rows of which its RECORD has no size."""
    executable_record: bool = False
    """Whether its RECORD may be run, as some tools have it of all files. The one that is written keeps it."""
    generated: Sequence[str] = ()
    """Paths under the prefix of files that are written when the wheel is installed, besides commands."""


@dataclass(frozen=True)
class PackageContents:
    """A package's paths, in columns of equal length, and what else its `info/` says.

    `sources` are the archive's members. `targets` are the same files under the prefix; they differ for noarch python.
    """

    package: str
    """`name-version-build`, for messages."""
    sources: Sequence[str]
    targets: Sequence[str]
    kinds: str
    """One letter per path: `f`ile, `s`oftlink, `d`irectory."""
    sizes: Sequence[int | None]
    sha256: Sequence[str | None]
    placeholders: dict[int, Placeholder]
    """By index of the path; only files have one."""
    no_link: frozenset[int]
    directories: Sequence[str]
    """Every directory that the paths need, parents first, without the prefix itself."""
    entry_points: Sequence[EntryPoint]
    link_scripts: Sequence[str]
    """Paths under the prefix of the scripts that conda would run when it links the package. condery never runs them."""
    timestamp: int
    """When the package was built, in seconds UTC."""
    noarch: str | None
    """`python`, `generic` or None, according to the archive itself."""
    parts: Sequence[Part] = ("pkg",)
    """The tars in the archive that hold files to install."""
    python: PythonLayout | None = None
    """The layout for which `targets` and entry points were made; None unless `noarch` is `python`, or for a wheel."""
    wheel: WheelFacts | None = None
    """Set if it is a wheel. `sha256` is then what its RECORD says, and what every reader compares with."""

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

    def list_installed(self) -> list[str]:
        """List the paths under the prefix, without directories, entry points last."""
        paths: list[str]
        if "d" in self.kinds:
            paths = [target for target, kind in zip(self.targets, self.kinds, strict=True) if kind != "d"]
        else:
            paths = list(self.targets)
        paths += (f"bin/{entry.command}" for entry in self.entry_points)
        if self.wheel:
            paths += self.wheel.generated
        return paths

    def make_outline(self) -> Self:
        """Return a copy without most columns, which are too large to pass between processes.

        Of `targets` and `directories` it keeps those that decide how a container starts.
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
            wheel=replace(self.wheel, folders=(), unlisted=frozenset(), unsized=frozenset(), generated=())
            if self.wheel
            else None,
        )
