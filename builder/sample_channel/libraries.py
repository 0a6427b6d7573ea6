"""This machine's shared libraries, made into packages: what CPython and the wheels expect from a Linux system."""

from __future__ import annotations

import re
import sqlite3
import ssl
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.sample_channel import elf
from builder.sample_channel.package import File, Identity, Link, Member, Recipe

# conda-forge's names, where they do not follow from the library's name
_PACKAGES = {
    "libbz2": "bzip2",
    "libcrypt": "libxcrypt",
    "libcrypto": "openssl",
    "libgcc_s": "libgcc",
    "libhistory": "readline",
    "libncurses": "ncurses",
    "libncursesw": "ncurses",
    "libpanel": "ncurses",
    "libpanelw": "ncurses",
    "libreadline": "readline",
    "libsqlite3": "libsqlite",
    "libssl": "openssl",
    "libstdc++": "libstdcxx",
    "libtinfo": "ncurses",
    "libz": "libzlib",
}
_LICENSES = {
    "bzip2": "bzip2-1.0.6",
    "libexpat": "MIT",
    "libffi": "MIT",
    "libgcc": "GPL-3.0-only WITH GCC-exception-3.1",
    "liblzma": "0BSD",
    "libsqlite": "blessing",
    "libstdcxx": "GPL-3.0-only WITH GCC-exception-3.1",
    "libuuid": "BSD-3-Clause",
    "libxcrypt": "LGPL-2.1-or-later",
    "libzlib": "Zlib",
    "ncurses": "X11-distribute-modifications-variant",
    "openssl": "Apache-2.0",
    "readline": "GPL-3.0-or-later",
}
# two libraries whose file names give interface versions, not releases; this interpreter has them loaded
_VERSIONS = {"openssl": ssl.OPENSSL_VERSION.split()[1], "libsqlite": sqlite3.sqlite_version}
_EXTRA_DEPENDS = {"openssl": ("ca-certificates",)}


@dataclass(frozen=True)
class Library:
    """A shared library on this machine."""

    soname: str
    file: Path
    dynamic: elf.Dynamic

    @property
    def package(self) -> str:
        stem = self.soname.partition(".so")[0]
        return _PACKAGES.get(stem, re.sub(r"[^a-z0-9_.-]", "x", stem.lower()))

    @property
    def version(self) -> str:
        """What follows `.so.` in the longest of its names."""
        versions = [name.partition(".so.")[2] for name in (self.file.name, self.soname)]
        return re.sub(r"[^0-9.].*", "", max(versions, key=len)) or "0"


@dataclass(frozen=True)
class Libraries:
    """The libraries of this machine that are needed, and the libraries that those need."""

    by_soname: Mapping[str, Library]
    missing: frozenset[str]
    """Needed, but not on this machine."""

    @classmethod
    def find_needed(cls, sonames: Iterable[str], places: Mapping[str, Path]) -> Libraries:
        """Find the libraries `sonames` and theirs in turn; `places` says where each library is."""
        found: dict[str, Library] = {}
        missing: set[str] = set()
        queue = sorted(sonames)
        while queue:
            soname = queue.pop()
            if soname in found or soname in missing or elf.belongs_to_glibc(soname) or soname.startswith("libpython"):
                continue
            path = places[soname].resolve() if soname in places else None
            dynamic = elf.read_dynamic(path.read_bytes()) if path else None
            if path is None or dynamic is None:
                missing.add(soname)
                continue
            found[soname] = Library(soname, path, dynamic)
            queue.extend(dynamic.needed)
        return cls(dict(sorted(found.items())), frozenset(missing))

    def provides(self, soname: str) -> bool:
        return soname in self.by_soname

    def match_specs(self, sonames: Iterable[str]) -> tuple[str, ...]:
        """Return the dependencies of a package that needs `sonames`."""
        packages = {self.by_soname[soname].package for soname in sonames if soname in self.by_soname}
        return tuple(f"{name} >={self._choose_version(name)}" for name in sorted(packages))

    def make_recipes(self, subdir: str) -> list[Recipe]:
        """Make the packages' recipes, by name."""
        names = sorted({library.package for library in self.by_soname.values()})
        return [self._make_recipe(name, subdir) for name in names]

    def _select(self, package: str) -> list[Library]:
        return [library for library in self.by_soname.values() if library.package == package]

    def _choose_version(self, package: str) -> str:
        return _VERSIONS.get(package) or max((library.version for library in self._select(package)), key=len)

    def _make_recipe(self, package: str, subdir: str) -> Recipe:
        libraries = self._select(package)
        files = {
            library.soname: File.of(f"lib/{library.file.name}", library.file, _read_mtime(library))
            for library in libraries
        }
        glibc = max(library.dynamic.glibc for library in libraries)
        own = {library.soname for library in libraries}
        needed = {soname for library in libraries for soname in library.dynamic.needed} - own
        depends = [*self.match_specs(needed), *_EXTRA_DEPENDS.get(package, ())]
        depends = [spec for spec in depends if spec.partition(" ")[0] != package]
        return Recipe(
            identity=Identity(
                name=package,
                version=self._choose_version(package),
                subdir=subdir,
                depends=(*((f"__glibc >={glibc[0]}.{glibc[1]},<3.0.a0",) if glibc > (0, 0) else ()), *depends),
                timestamp=max(file.mtime for file in files.values()),
                license=_LICENSES.get(package),
            ),
            source={soname: [file.path, file.sha256, file.mtime] for soname, file in files.items()},
            members=lambda work: _list_members(libraries, work),
            about={"summary": f"The shared libraries {', '.join(files)} of the machine that made this channel"},
        )


def _read_mtime(library: Library) -> int:
    return int(library.file.stat().st_mtime)


def _list_members(libraries: Iterable[Library], work: Path) -> Iterable[Member]:
    by_file: dict[Path, set[str]] = defaultdict(set)
    for library in libraries:
        by_file[library.file].add(library.soname)
    for file, sonames in by_file.items():
        copy = work / file.name
        copy.write_bytes(file.read_bytes())
        copy.chmod(0o755)
        elf.set_search_path(copy, ("$ORIGIN",))
        yield File.of(f"lib/{file.name}", copy, int(file.stat().st_mtime), executable=True)
        yield from (Link(f"lib/{soname}", file.name) for soname in sonames - {file.name})
