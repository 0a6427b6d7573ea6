"""What an installer writes for a wheel besides its files, byte for byte like uv, but for the name in `INSTALLER`.

A prefix of None stands for one that is not known yet: scripts then find their interpreter through `env`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from builder.errors import PackageRefused
from builder.packages.contents import PackageContents
from builder.packages.prefix_record import WrittenFile
from builder.packages.wheels.commands import find_script, write_command, write_shebang
from builder.packages.wheels.placement import name_in_record
from builder.packages.wheels.record import Row, write_record
from storage.errors import quote

INSTALLER = b"condery"
"""Who installed the distribution, as `INSTALLER` says it."""


class Script(NamedTuple):
    """A program of a wheel, whose first line is that of the environment: its content in pieces, its size in bytes."""

    pieces: Iterator[bytes]
    size: int


class GeneratedFile(NamedTuple):
    target: str
    content: bytes
    mode: int = 0o644


def is_program(contents: PackageContents, index: int) -> bool:
    """Whether a file is one of the wheel's programs, which can be run however it was packed."""
    assert contents.wheel is not None
    return contents.sources[index].startswith(contents.wheel.information.removesuffix(".dist-info") + ".data/scripts/")


def rewrite_script(
    contents: PackageContents, index: int, first: bytes, rest: Iterator[bytes], prefix: str | None
) -> Script | None:
    """Put the environment's interpreter into the first line of a program that names `#!python`; None for others.

    `first` is its first piece. Raises PackageRefused.
    """
    size = contents.sizes[index] or 0
    begin = find_script(first)
    if begin is None:
        return None
    if begin >= len(first) - 1 and size > len(first):
        raise PackageRefused(contents.package, f"the first line of {quote(contents.sources[index], 200)} is too long")
    shebang = write_shebang(prefix)
    return Script(chain([shebang, first[begin:]], rest), size - begin + len(shebang))


def list_generated(
    contents: PackageContents, prefix: str | None, scripts: Mapping[int, WrittenFile]
) -> Iterator[GeneratedFile]:
    """List what is written at installation: commands, and the installer's own files, RECORD last.

    `scripts` are the programs whose first line was changed, by row.
    """
    assert contents.wheel is not None
    assert contents.python is not None
    site = contents.python.site_packages
    files = [
        *(GeneratedFile(f"bin/{each.command}", write_command(each, prefix), 0o755) for each in contents.entry_points),
        GeneratedFile(f"{site}/{contents.wheel.information}/INSTALLER", INSTALLER),
        GeneratedFile(f"{site}/{contents.wheel.information}/REQUESTED", b""),
    ]
    yield from files
    record = f"{contents.wheel.information}/RECORD"
    rows = [
        Row(record),
        *_list_rows(contents, site, scripts),
        *(
            Row(name_in_record(each.target, site), hashlib.sha256(each.content).hexdigest(), len(each.content))
            for each in files
        ),
    ]
    yield GeneratedFile(f"{site}/{record}", write_record(rows), 0o755 if contents.wheel.executable_record else 0o644)


def _list_rows(contents: PackageContents, site: str, scripts: Mapping[int, WrittenFile]) -> Iterator[Row]:
    """List the rows of the wheel's own files: what its RECORD says, under the names that they have now."""
    assert contents.wheel is not None
    columns = zip(contents.targets, contents.sha256, contents.sizes, strict=True)
    for index, (target, sha256, size) in enumerate(columns):
        if index in contents.wheel.signatures:
            continue
        name = name_in_record(target, site)
        if written := scripts.get(index):
            yield Row(name, written.sha256, written.size)
        else:
            yield Row(name, sha256, None if index in contents.wheel.unsized else size)


def describe_unlisted(contents: PackageContents) -> list[str]:
    """Describe, for the report, files that nobody vouches for: a line each."""
    assert contents.wheel is not None
    lines = []
    for index, (source, sha256) in enumerate(zip(contents.sources, contents.sha256, strict=True)):
        if index in contents.wheel.unlisted:
            lines.append(f"{source} is not in its RECORD")
        elif sha256 is None and index not in contents.wheel.signatures:
            lines.append(f"{source} has no hash in its RECORD")
    return lines
