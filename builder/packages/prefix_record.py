"""The record of an installed package in `conda-meta`, from which conda, scanners and SBOM tools know it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from builder.locks.lock import LockedPackage
from builder.packages.contents import PackageContents
from builder.packages.differences import PathFacts

_PATH_TYPES = {"f": "hardlink", "s": "softlink", "d": "directory", "p": "unix_python_entry_point"}
_NOTHING: Mapping[str, PathFacts] = MappingProxyType({})
_LINK_COPY = 3
"""From conda's LinkType: neither a hard link into a package cache nor a symbolic link."""
_BATCH = 2000
"""Paths that are turned into JSON at a time: an object for every path of a large package takes too much memory."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file whose bytes the installation decides. Hexadecimal sha256 and size (bytes) are as under the prefix."""

    sha256: str
    size: int


def write_prefix_record(package: LockedPackage, requested: str | None) -> bytes:
    """Write the start of `conda-meta/<package>.json`: the channel's record (conda `models/records.py`).

    The result of `write_paths` follows, without its first byte. `requested` is the match spec if the user asked for
    this package.
    """
    record: dict[str, Any] = {
        "build": package.build,
        "build_number": package.build_number,
        "channel": package.channel,
        "constrains": package.constrains,
        "depends": package.depends,
        "extracted_package_dir": "",
        "fn": package.file_name,
        "license": package.license,
        "link": {"source": "", "type": _LINK_COPY},
        "md5": package.md5,
        "name": package.name,
        "noarch": package.noarch,
        "package_tarball_full_path": "",
        "python_site_packages_path": package.python_site_packages_path,
        "requested_spec": requested,
        "requested_specs": [requested] if requested else None,
        "sha256": package.sha256,
        "size": package.size,
        "subdir": package.subdir,
        "timestamp": package.timestamp,
        "url": package.url,
        "version": package.version,
    }
    known = orjson.dumps({name: value for name, value in record.items() if value is not None})
    return known[:-1] + b","


def write_paths(
    contents: PackageContents,
    written: Mapping[str, WrittenFile],
    excluded: Collection[str],
    differences: Mapping[str, PathFacts] = _NOTHING,
) -> Iterator[bytes]:
    """Write `files` and `paths_data` of a package's prefix record, as pieces of a JSON object.

    `written` says, by path, what files with a replaced prefix and entry points became. The paths in `excluded` belong
    to another package. `differences` holds what the archive has where its listing is wrong. Thousands of paths take a
    while, so this is done once per fragment and kept beside it.

    `sha256` is the package's own claim about the file as packaged. `sha256_in_prefix` is computed from the bytes that
    go into the image, and absent if it was not computed (as in rattler).
    """
    scripts = [f"bin/{entry_point.command}" for entry_point in contents.entry_points]
    paths = [*contents.targets, *scripts]
    kinds = contents.kinds + "p" * len(scripts)
    order = sorted(range(len(paths)), key=paths.__getitem__)
    if excluded:
        order = [index for index in order if paths[index] not in excluded]
    yield b'{"files":' + orjson.dumps([paths[index] for index in order if kinds[index] != "d"])
    yield b',"paths_data":{"paths":['
    for start in range(0, len(order), _BATCH):
        entries = [
            _write_path(contents, index, paths[index], kinds[index], written, differences.get(paths[index]))
            for index in order[start : start + _BATCH]
        ]
        yield (b"," if start else b"") + orjson.dumps(entries)[1:-1]
    yield b'],"paths_version":1}}'


def _write_path(
    contents: PackageContents,
    index: int,
    path: str,
    kind: str,
    written: Mapping[str, WrittenFile],
    found: PathFacts | None,
) -> dict[str, Any]:
    """Write one entry of `paths_data.paths`: the hash as packaged, the hash and size as in the image."""
    if kind == "p":
        entry: dict[str, Any] = {"_path": path, "path_type": _PATH_TYPES[kind]}
    elif found is None:
        entry = _write_entry(path, kind, contents.sizes[index], contents.sha256[index])
    else:
        # the listed hash belongs to other content
        entry = _write_entry(path, found.kind, found.size, found.sha256)
    if kind != "p":
        if (placeholder := contents.placeholders.get(index)) and entry["path_type"] != _PATH_TYPES["s"]:
            entry["prefix_placeholder"], entry["file_mode"] = placeholder
        if index in contents.no_link:
            entry["no_link"] = True
    if file := written.get(path):
        entry["sha256_in_prefix"], entry["size_in_bytes"] = file.sha256, file.size
    return entry


def _write_entry(path: str, kind: str, size: int | None, sha256: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"_path": path, "path_type": _PATH_TYPES[kind]}
    if sha256:
        entry["sha256"] = sha256
    if size is not None:
        entry["size_in_bytes"] = size
    return entry
