"""The record of an installed package in `conda-meta`, by which conda, scanners and SBOM tools know it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson

from builder.contents import PackageContents
from builder.lock import LockedPackage

_PATH_TYPES = {"f": "hardlink", "s": "softlink", "d": "directory"}
_LINK_COPY = 3
"""Of conda's LinkType: neither a hard link into a package cache nor a symbolic one."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file whose bytes the installation decides: hexadecimal sha256 and size as they are under the prefix."""

    sha256: str
    size: int


def prefix_record(package: LockedPackage, paths: bytes, requested: str | None) -> bytes:
    """`conda-meta/<package>.json`: the channel's record, and every path with its hashes (conda `models/records.py`).

    `paths` is from `recorded_paths`; `requested` is the match spec of a package that was asked for.
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
    return known[:-1] + b"," + paths[1:]


def recorded_paths(contents: PackageContents, written: Mapping[str, Written], excluded: Collection[str]) -> bytes:
    """The `files` and `paths_data` of a package's prefix record, as a JSON object.

    `written` has what files with a replaced prefix and entry points became, by path; the paths `excluded` belong to
    another package. Thousands of paths take a while, so this is done once for a fragment and kept beside it.
    """
    entries = _path_entries(contents, written, excluded)
    files = [entry["_path"] for entry in entries if entry["path_type"] != "directory"]
    return orjson.dumps({"files": files, "paths_data": {"paths": entries, "paths_version": 1}})


def _path_entries(
    contents: PackageContents, written: Mapping[str, Written], excluded: Collection[str]
) -> list[dict[str, Any]]:
    """`paths_data.paths`: hash as packaged, hash and size of what lies in the image; sorted by path."""
    columns = zip(contents.targets, contents.kinds, contents.sizes, contents.sha256, strict=True)
    entries = [_path_entry(*row) for row in columns]
    for index, placeholder in contents.placeholders.items():
        entries[index]["prefix_placeholder"], entries[index]["file_mode"] = placeholder
    for index in contents.no_link:
        entries[index]["no_link"] = True
    entries += (
        {"_path": f"bin/{entry_point.command}", "path_type": "unix_python_entry_point"}
        for entry_point in contents.entry_points
    )
    for entry in entries:
        if file := written.get(entry["_path"]):
            entry["sha256_in_prefix"], entry["size_in_bytes"] = file.sha256, file.size
    if excluded:
        entries = [entry for entry in entries if entry["_path"] not in excluded]
    entries.sort(key=itemgetter("_path"))
    return entries


def _path_entry(target: str, kind: str, size: int | None, sha256: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"_path": target, "path_type": _PATH_TYPES[kind]}
    if sha256:
        entry["sha256"] = entry["sha256_in_prefix"] = sha256
    if size is not None:
        entry["size_in_bytes"] = size
    return entry
