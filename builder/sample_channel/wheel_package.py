"""Makes a wheel into a conda package: noarch python from a pure wheel, otherwise a package for this machine's
platform."""

from __future__ import annotations

import base64
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement

from builder.sample_channel import elf
from builder.sample_channel.interpreter import Interpreter, make_search_path
from builder.sample_channel.libraries import Libraries
from builder.sample_channel.package import PLACEHOLDER, File, Identity, Member, Recipe
from builder.sample_channel.requirements import find_conda_name, write_constraint, write_match_spec, write_version
from builder.sample_channel.wheel import Wheel, WheelFile


@dataclass(frozen=True)
class Layout:
    """Where a wheel's files go in a package. Paths have no trailing slash."""

    site_packages: str
    scripts: str
    headers: str
    python: str
    """The interpreter's name in `bin`."""

    @classmethod
    def of(cls, wheel: Wheel, interpreter: Interpreter) -> Layout:
        if wheel.pure:
            return cls("site-packages", "python-scripts", f"include/{wheel.name}", "python")
        python = f"python{interpreter.series}"
        return cls(interpreter.site_packages, "bin", f"include/{python}/{wheel.name}", python)

    def path(self, file: WheelFile) -> str:
        folders = {"site-packages": self.site_packages, "scripts": self.scripts, "headers": self.headers, "data": ""}
        return str(PurePosixPath(folders[file.scheme]) / file.path)


def find_needed_libraries(wheel: Wheel) -> frozenset[str]:
    """Return the sonames that the wheel's files need and that it does not contain."""
    if wheel.pure:
        return frozenset()
    carried = {PurePosixPath(file.path).name for file in wheel.files}
    needed: set[str] = set()
    with zipfile.ZipFile(wheel.path) as archive:
        for file in wheel.files:
            with archive.open(file.member) as stream:
                if not elf.is_elf(beginning := stream.read(64)):
                    continue
                dynamic = elf.read_dynamic(beginning + stream.read())
            needed.update(dynamic.needed if dynamic else ())
    return frozenset(
        soname for soname in needed - carried if not elf.belongs_to_glibc(soname) and not soname.startswith("libpython")
    )


def make_wheel_recipe(
    wheel: Wheel,
    requirements: Iterable[Requirement],
    interpreter: Interpreter,
    libraries: Libraries,
    needed: frozenset[str],
) -> Recipe:
    """Make the package of `wheel`, which depends on `requirements` and on the packages of the libraries `needed`."""
    layout = Layout.of(wheel, interpreter)
    python = f"python {write_constraint(wheel.requires_python)}".rstrip() if wheel.pure else interpreter.requirement
    glibc = [f"__glibc >={wheel.glibc[0]}.{wheel.glibc[1]},<3.0.a0"] if wheel.glibc else []
    specs = sorted({write_match_spec(requirement) for requirement in requirements})
    series = interpreter.series.replace(".", "")
    return Recipe(
        identity=Identity(
            name=find_conda_name(wheel.name),
            version=write_version(wheel.version),
            subdir="noarch" if wheel.pure else interpreter.subdir,
            depends=(*glibc, *libraries.match_specs(needed), python, *specs),
            timestamp=wheel.timestamp,
            noarch="python" if wheel.pure else None,
            license=wheel.license,
            build_pattern="pyh{key}_0" if wheel.pure else f"py{series}h{{key}}_0",
        ),
        source={"wheel": wheel.path.name, "sha256": wheel.sha256},
        members=lambda work: _list_members(wheel, layout, libraries, work),
        entry_points=wheel.entry_points if wheel.pure else (),
        about={"home": wheel.read_field("Home-page"), "summary": wheel.read_field("Summary")},
        licenses=wheel.read_licenses(),
    )


def _list_members(wheel: Wheel, layout: Layout, libraries: Libraries, work: Path) -> Iterator[Member]:
    information = f"{layout.site_packages}/{wheel.information}"
    dropped = {
        f"{wheel.information}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED")
    }
    files = []
    with zipfile.ZipFile(wheel.path) as archive:
        for number, file in enumerate(wheel.files):
            if file.member in dropped:
                continue
            extracted = work / str(number)
            with archive.open(file.member) as source, extracted.open("wb") as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
            files.append(_make_file(layout, libraries, file, extracted))
    files.append(File.of(f"{information}/INSTALLER", b"conda\n", wheel.timestamp))
    if not wheel.pure:
        files.extend(_write_entry_scripts(wheel, layout))
    yield from files
    yield File.of(f"{information}/RECORD", _write_record(wheel, layout, files), wheel.timestamp)


def _make_file(layout: Layout, libraries: Libraries, file: WheelFile, extracted: Path) -> File:
    path = layout.path(file)
    with extracted.open("rb") as stream:
        beginning = stream.read(64)
    if file.scheme == "scripts" and beginning.startswith(b"#!python"):
        _, _, rest = extracted.read_bytes().partition(b"\n")
        content = f"#!{PLACEHOLDER}/bin/{layout.python}\n".encode() + rest
        return File.of(path, content, file.mtime, executable=True, prefix="text")
    if elf.is_elf(beginning):
        _look_into_lib(extracted, path, libraries)
    return File.of(path, extracted, file.mtime, executable=file.executable)


def _look_into_lib(extracted: Path, path: str, libraries: Libraries) -> None:
    """Make an ELF file find the environment's libraries, after those in its own wheel, and no others."""
    dynamic = elf.read_dynamic(extracted.read_bytes())
    if dynamic is None:
        return
    wanted = [part for part in dynamic.search if part.startswith(("$ORIGIN", "${ORIGIN}"))]
    own = make_search_path(path)
    if own not in wanted and any(libraries.provides(soname) for soname in dynamic.needed):
        wanted.append(own)
    if tuple(wanted) != dynamic.search:
        # a new DT_RUNPATH would hide the inherited DT_RPATH on which auditwheel relies
        elf.set_search_path(extracted, wanted, inherited=dynamic.inherited or not dynamic.search)


def _write_entry_scripts(wheel: Wheel, layout: Layout) -> Iterator[File]:
    for command, target in _list_commands(wheel).items():
        module, _, function = target.partition(":")
        # `a.b:c.d` imports c and calls c.d
        imported = function.partition(".")[0]
        lines = [
            f"#!{PLACEHOLDER}/bin/{layout.python}",
            "import sys",
            f"from {module} import {imported}",
            'if __name__ == "__main__":',
            f"    sys.exit({function}())",
            "",
        ]
        path = f"{layout.scripts}/{command}"
        yield File.of(path, "\n".join(lines).encode(), wheel.timestamp, executable=True, prefix="text")


def _list_commands(wheel: Wheel) -> Mapping[str, str]:
    pairs = (point.partition(" = ") for point in wheel.entry_points)
    return {command: target for command, _, target in pairs}


def _write_record(wheel: Wheel, layout: Layout, files: Iterable[File]) -> bytes:
    """Write RECORD for the installed package: paths from site-packages, without digests of what installing changes."""
    installed = f"lib/pythonX.Y/{layout.site_packages}" if wheel.pure else layout.site_packages
    rows = {}
    for file in files:
        path = file.path
        if wheel.pure:
            path = path.replace("site-packages/", f"{installed}/", 1) if path.startswith("site-packages/") else path
            path = path.replace("python-scripts/", "bin/", 1) if path.startswith("python-scripts/") else path
        digest = base64.urlsafe_b64encode(bytes.fromhex(file.sha256)).rstrip(b"=").decode()
        rows[os.path.relpath(path, installed)] = ",," if file.prefix else f",sha256={digest},{file.size}"
    if wheel.pure:
        rows.update({os.path.relpath(f"bin/{command}", installed): ",," for command in _list_commands(wheel)})
    rows[f"{wheel.information}/RECORD"] = ",,"
    return "".join(f"{_quote(path)}{rest}\n" for path, rest in sorted(rows.items())).encode()


def _quote(path: str) -> str:
    return '"' + path.replace('"', '""') + '"' if any(character in path for character in ',"') else path
