"""The CPython that runs this, made into the package `python`.

It may be one of three kinds: with a shared libpython, with a static one, or Debian's, which keeps the standard library
and the packages apart and is patched to look for packages in `dist-packages`.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from builder.errors import SampleChannelFailed
from builder.sample_channel import elf
from builder.sample_channel.libraries import Libraries
from builder.sample_channel.package import PLACEHOLDER, File, Identity, Link, Member, Recipe

SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}

# large, or useless without a display, a compiler or the distribution's own tools
_LEFT_OUT = frozenset(
    [
        *("__pycache__", "site-packages", "dist-packages", "lib-dynload"),
        *("test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "build-details.json"),
        *("EXTERNALLY-MANAGED", "sitecustomize.py", "_distutils_system_mod.py"),
    ]
)
# nis pulls in Kerberos, tkinter X11; the rest are CPython's own tests
_EXTENSIONS_LEFT_OUT = re.compile(r"(nis|_tkinter|_test.*|_ctypes_test|xx.*|_xx.*)\..*")
# not a change to site.py: that module is frozen into the executable
_DEBIAN_SITE = '''\
"""Packages lie in site-packages here, whatever the distribution does that this interpreter comes from."""

import os
import site
import sys


def getsitepackages(prefixes=None):
    versioned = "python%d.%d" % sys.version_info[:2]
    unique = dict.fromkeys(prefix for prefix in prefixes or site.PREFIXES if prefix)
    return [os.path.join(prefix, "lib", versioned, "site-packages") for prefix in unique]


if sys.prefix == sys.base_prefix:
    site.getsitepackages = getsitepackages
    for directory in filter(os.path.isdir, getsitepackages()):
        site.addsitedir(directory)
'''
_DEBIAN_SCHEME = "posix_local"
# before `get_preferred_scheme`, because later functions call that for the defaults of their arguments
_DEBIAN_SCHEMES = """\
def _get_preferred_schemes():
    return {"prefix": "posix_prefix", "home": "posix_home", "user": "posix_user"}


"""


@dataclass(frozen=True)
class Interpreter:
    """An installed CPython for this machine."""

    executable: Path
    prefix: str
    version: str
    """`3.11.7`"""
    series: str
    """`3.11`"""
    stdlib: Path
    extensions: Path
    """lib-dynload"""
    library: str
    """Path of the standard library under a prefix: `lib/python3.11`."""
    subdir: str

    @classmethod
    def find_running(cls) -> Interpreter:
        """Describe the interpreter that runs this, outside of any virtual environment. Raises SampleChannelFailed."""
        machine = platform.machine()
        if sys.platform != "linux" or sys.implementation.name != "cpython" or machine not in SUBDIRS:
            raise SampleChannelFailed(f"a sample channel needs CPython on Linux, {' or '.join(SUBDIRS)}, not {machine}")
        if platform.libc_ver()[0] != "glibc":
            raise SampleChannelFailed("a sample channel needs a machine with glibc, since the wheels do")
        series = "{}.{}".format(*sys.version_info)
        stdlib = Path(os.__file__).parent
        shared = sysconfig.get_config_var("DESTSHARED")
        extensions = stdlib / "lib-dynload"
        return cls(
            executable=Path(getattr(sys, "_base_executable", sys.executable)).resolve(),
            prefix=sys.base_prefix,
            version="{}.{}.{}".format(*sys.version_info),
            series=series,
            stdlib=stdlib,
            extensions=extensions if extensions.is_dir() or not shared else Path(shared),
            library=f"{sys.platlibdir}/python{series}",
            subdir=SUBDIRS[machine],
        )

    @property
    def site_packages(self) -> str:
        return f"lib/python{self.series}/site-packages"

    @property
    def requirement(self) -> str:
        """The match spec for packages compiled for this interpreter."""
        major, minor = map(int, self.series.split("."))
        return f"python >={self.series},<{major}.{minor + 1}.0a0"

    @cached_property
    def shared_library(self) -> Path | None:
        """libpython, if the executable loads one."""
        loaded = elf.list_loaded_libraries([self.executable])
        return next((path.resolve() for soname, path in loaded.items() if soname.startswith("libpython")), None)

    @cached_property
    def keeps_packages_elsewhere(self) -> bool:
        """Whether it looks in `dist-packages`, like Debian's, instead of `site-packages`."""
        return "dist-packages" in (self.stdlib / "site.py").read_text()

    @cached_property
    def binaries(self) -> dict[str, Path]:
        """Path under the prefix -> file, for everything that is loaded: executable, libpython, extension modules."""
        found = {f"bin/python{self.series}": self.executable}
        if self.shared_library:
            found[f"lib/{self.shared_library.name}"] = self.shared_library
        if self.extensions.is_dir():
            for path in sorted(self.extensions.glob("*.so")):
                if not _EXTENSIONS_LEFT_OUT.fullmatch(path.name):
                    found[f"{self.library}/lib-dynload/{path.name}"] = path
        return found

    @cached_property
    def sources(self) -> dict[str, Path]:
        """Path under the prefix -> file or link in the standard library."""
        return {f"{self.library}/{path.relative_to(self.stdlib)}": path for path in self._walk(self.stdlib)}

    def _walk(self, directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if path.name in _LEFT_OUT or path.name.startswith("config-") or path.suffix == ".pyc":
                continue
            if path.is_dir() and not path.is_symlink():
                yield from self._walk(path)
            else:
                yield path


def make_python_recipe(interpreter: Interpreter, libraries: Libraries) -> Recipe:
    """Make the recipe of `python`: everything that a prefix needs besides libraries, time zones and certificates."""
    dynamics = {path: elf.read_dynamic(file.read_bytes()) for path, file in interpreter.binaries.items()}
    needed = {soname for dynamic in dynamics.values() if dynamic for soname in dynamic.needed}
    glibc = max(dynamic.glibc for dynamic in dynamics.values() if dynamic)
    digests = {
        path: [file.sha256, file.mtime]
        for path, source in {**interpreter.binaries, **interpreter.sources}.items()
        if isinstance(file := _copy_member(path, source), File)
    }
    return Recipe(
        identity=Identity(
            name="python",
            version=interpreter.version,
            subdir=interpreter.subdir,
            depends=(f"__glibc >={glibc[0]}.{glibc[1]},<3.0.a0", *libraries.match_specs(needed), "tzdata"),
            timestamp=max(mtime for _, mtime in digests.values() if isinstance(mtime, int)),
            license="Python-2.0",
            python_site_packages_path=interpreter.site_packages,
            build_pattern="h{key}_0_cpython",
        ),
        source={"files": digests, "prefix": interpreter.prefix},
        members=lambda work: _list_members(interpreter, libraries, work),
        about={"home": "https://www.python.org/", "summary": "General purpose programming language"},
        licenses=_find_licenses(interpreter),
    )


def _copy_member(path: str, source: Path) -> Member:
    if source.is_symlink() and source.parent == Path(os.path.normpath(source.parent / source.readlink())).parent:
        return Link(path, source.readlink().name)
    return File.of(path, source, int(source.stat().st_mtime), executable=bool(source.stat().st_mode & 0o111))


def _find_licenses(interpreter: Interpreter) -> dict[str, bytes]:
    text = interpreter.stdlib / "LICENSE.txt"
    return {"LICENSE.txt": text.read_bytes()} if text.is_file() else {}


def _list_members(interpreter: Interpreter, libraries: Libraries, work: Path) -> Iterator[Member]:
    for path, source in interpreter.binaries.items():
        yield _read_binary(interpreter, libraries, path, source, work)
    for path, source in interpreter.sources.items():
        yield _read_source(interpreter, path, source)
    versioned = f"python{interpreter.series}"
    yield Link("bin/python", versioned)
    yield Link("bin/python3", versioned)
    script = f"#!{PLACEHOLDER}/bin/{versioned}\nimport pydoc\n\nif __name__ == '__main__':\n    pydoc.cli()\n"
    mtime = int(interpreter.executable.stat().st_mtime)
    if interpreter.keeps_packages_elsewhere:
        yield File.of(f"{interpreter.library}/sitecustomize.py", _DEBIAN_SITE.encode(), mtime)
    yield File.of(f"bin/pydoc{interpreter.series}", script.encode(), mtime, executable=True, prefix="text")
    yield Link("bin/pydoc3", f"pydoc{interpreter.series}")
    yield Link("bin/pydoc", f"pydoc{interpreter.series}")


def _read_binary(interpreter: Interpreter, libraries: Libraries, path: str, source: Path, work: Path) -> File:
    """Read the file, and make it look for libraries in the environment and nowhere else."""
    data = source.read_bytes()
    dynamic = elf.read_dynamic(data)
    mtime = int(source.stat().st_mtime)
    is_program = path.startswith("bin/")
    if dynamic is None:
        return File.of(path, data, mtime, executable=True)
    outside = any(libraries.provides(soname) or soname.startswith("libpython") for soname in dynamic.needed)
    relative = (make_search_path(path),) if is_program or outside else ()
    # A program's `$ORIGIN` is read from /proc. Where that is not mounted, the program uses the absolute path, which is
    # also a placeholder in a binary file. The relative path comes first: an archive of the environment runs the program
    # before it knows its place.
    wanted = (*relative, f"{PLACEHOLDER}/lib") if is_program else relative
    if wanted != dynamic.search:
        copy = work / Path(path).name
        copy.write_bytes(data)
        copy.chmod(0o755)
        elf.set_search_path(copy, wanted)
        data = copy.read_bytes()
        copy.unlink()
    return File.of(path, data, mtime, executable=True, prefix="binary" if is_program else None)


def make_search_path(path: str) -> str:
    """Return the `$ORIGIN` path from a file in the environment to its `lib` folder."""
    relative = os.path.relpath("lib", Path(path).parent)
    return "$ORIGIN" if relative == "." else f"$ORIGIN/{relative}"


def _read_source(interpreter: Interpreter, path: str, source: Path) -> Member:
    member = _copy_member(path, source)
    if isinstance(member, Link):
        return member
    relative = path.removeprefix(f"{interpreter.library}/")
    if relative.startswith("_sysconfig"):
        text = _put_placeholder(source.read_text(), interpreter.prefix)
        return File.of(path, text.encode(), member.mtime, prefix="text")
    if relative in ("sysconfig.py", "sysconfig/__init__.py"):
        text = source.read_text()
        if _DEBIAN_SCHEME in text:
            text = re.sub(r"^(?=def get_preferred_scheme\()", _DEBIAN_SCHEMES, text, count=1, flags=re.MULTILINE)
        return File.of(path, text.encode(), member.mtime, executable=member.executable)
    return member


def _put_placeholder(text: str, prefix: str) -> str:
    """Replace the prefix in build settings whose paths are in the environment: its folders, and its own time zones."""
    own = re.compile(rf"(?<![\w./-]){re.escape(prefix)}(?=/(?:bin|include|lib|lib64|share)\b|['\"\s])")
    text = own.sub(PLACEHOLDER, text)
    return re.sub(r"""(["']TZPATH["']: )(["'])[^"']*["']""", rf"\1\2{PLACEHOLDER}/share/zoneinfo\2", text)
