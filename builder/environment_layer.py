"""The last, tiny layer: what makes a folder of files a conda environment, and the container start in it.

It holds `conda-meta/<name>-<version>-<build>.json` for every package, `conda-meta/history`, the lock file, the
entrypoint and the home of the non-root user. Pure functions over facts; times are the newest package's.
"""

from __future__ import annotations

import datetime
import importlib.resources
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson
from isal import isal_zlib

from builder import tar
from builder.contents import PackageContents
from builder.errors import FormatUnsuitable, PackageRefused
from builder.fragment import Written
from builder.image import HOME, OCI_LAYER, ImageLayer
from builder.lock import Lock, LockedPackage
from builder.lock_formats import conda_lock_yaml, explicit_text, newest
from storage.digest import Descriptor, Digest

ENTRYPOINT = ".condery/entrypoint"
"""The entrypoint's path under the prefix."""

VARIABLES_DIRECTORY = "etc/conda/env_vars.d/"

_SHELLS = ("bin/bash", "bin/dash", "bin/sh")
_PATH_TYPES = {"f": "hardlink", "s": "softlink", "d": "directory"}
_LINK_COPY = 3
"""Of conda's LinkType: neither a hard link into a package cache nor a symbolic one."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package as it lies in the image."""

    package: LockedPackage
    contents: PackageContents
    written: Mapping[str, Written]
    """Of its fragment: what the files with a replaced prefix and the entry points became, by path."""
    excluded: Collection[str] = ()
    """Paths that another package won."""


@dataclass(frozen=True, slots=True)
class LayerMember:
    """A file or, with `content` None, a directory of the layer; `path` from the root, without a slash before it."""

    path: str
    content: bytes | None
    mode: int = 0o644
    owner: int = 0


@dataclass(frozen=True, slots=True)
class EnvironmentLayer:
    """The finished layer: its bytes, and what the image says of it."""

    content: bytes
    layer: ImageLayer


def members(
    lock: Lock,
    platform: str,
    installed: Sequence[InstalledPackage],
    *,
    shell: str | None,
    user: int | None = None,
) -> list[LayerMember]:
    """The layer's members for `platform`, without the directories that lead to them.

    `shell` is the absolute path of the image's shell, see `find_shell`; without one there is no entrypoint. `user` gets
    a home.
    """
    prefix = lock.spec.prefix.strip("/")
    requested = {item.name: item.match_spec() for item in lock.spec.items}
    result = [
        LayerMember(f"{prefix}/conda-meta/{each.package}.json", prefix_record(each, requested.get(each.package.name)))
        for each in installed
    ]
    result.append(LayerMember(f"{prefix}/conda-meta/history", history(lock, platform)))
    result.append(_lock_file(lock, platform, prefix))
    if shell:
        result.append(LayerMember(f"{prefix}/{ENTRYPOINT}", entrypoint(shell), 0o755))
    if user is not None:
        result.append(LayerMember(HOME.strip("/"), None, 0o755, user))
    return result


def make_layer(
    contents: Iterable[LayerMember], modified: int, packages: Sequence[str] = ("environment",)
) -> EnvironmentLayer:
    """`contents` as a compressed layer, every directory once and before what is in it; `modified` in seconds UTC."""
    archive = tar_archive(contents, modified)
    compressor = isal_zlib.compressobj(1, wbits=31)
    compressed = b"".join(
        compressor.compress(archive[start : start + _CHUNK]) for start in range(0, len(archive), _CHUNK)
    )
    compressed += compressor.flush()
    descriptor = Descriptor(OCI_LAYER, Digest.of(compressed), len(compressed))
    return EnvironmentLayer(compressed, ImageLayer(descriptor, Digest.of(archive), tuple(packages)))


def tar_archive(contents: Iterable[LayerMember], modified: int) -> bytes:
    ordered = sorted(contents, key=lambda member: member.path)
    explicit = {member.path for member in ordered if member.content is None}
    parents = {parent for member in ordered for parent in _parents(member.path)} - explicit
    directories = [LayerMember(path, None, 0o755) for path in parents]
    parts = []
    for member in sorted([*ordered, *directories], key=lambda member: member.path.split("/")):
        if member.content is None:
            parts.append(tar.directory(member.path, mode=member.mode, mtime=modified, owner=member.owner))
        else:
            size = len(member.content)
            parts += (
                tar.header(member.path, size=size, mode=member.mode, mtime=modified, owner=member.owner),
                member.content,
                tar.padding(size),
            )
    return b"".join([*parts, tar.END])


def prefix_record(installed: InstalledPackage, requested: str | None) -> bytes:
    """`conda-meta/<package>.json`: the channel's record, and every path with its hashes (conda `models/records.py`)."""
    package = installed.package
    entries = _path_entries(installed)
    record: dict[str, Any] = {
        "build": package.build,
        "build_number": package.build_number,
        "channel": package.channel,
        "constrains": package.constrains,
        "depends": package.depends,
        "extracted_package_dir": "",
        "files": [entry["_path"] for entry in entries if entry["path_type"] != "directory"],
        "fn": package.file_name,
        "license": package.license,
        "link": {"source": "", "type": _LINK_COPY},
        "md5": package.md5,
        "name": package.name,
        "noarch": package.noarch,
        "package_tarball_full_path": "",
        "paths_data": {"paths": entries, "paths_version": 1},
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
    return orjson.dumps({name: value for name, value in record.items() if value is not None})


def history(lock: Lock, platform: str) -> bytes:
    """`conda-meta/history`: one revision that adds every package for the specs asked for (conda `history.py`)."""
    packages = lock.packages[platform]
    moment = datetime.datetime.fromtimestamp(newest(packages) // 1000, datetime.UTC)
    specs = lock.spec.match_specs()
    lines = [
        f"==> {moment:%Y-%m-%d %H:%M:%S} <==",
        f"# cmd: condery build {' '.join(json.dumps(spec) for spec in specs)}",
        *sorted(f"+{package.channel}/{package.subdir}::{package}" for package in packages),
        f"# update specs: {specs!r}",
    ]
    return "\n".join([*lines, ""]).encode()


def entrypoint(shell: str) -> bytes:
    """The script at ENTRYPOINT, to be run by `shell`, an absolute path."""
    script = importlib.resources.files("builder").joinpath("entrypoint.sh").read_bytes()
    return f"#!{shell}\n".encode() + script


def find_shell(prefix: str, contents: Iterable[PackageContents], base_has_shell: bool) -> str | None:
    """A shell of the image: bash of the environment, which activation scripts are written for, else the base's."""
    own = {path for each in contents for path in _SHELLS if path in each.targets}
    if _SHELLS[0] in own:
        return f"{prefix}/{_SHELLS[0]}"
    if base_has_shell:
        return "/bin/sh"
    return f"{prefix}/{min(own, key=_SHELLS.index)}" if own else None


def package_variables(files: Iterable[tuple[str, str, bytes]]) -> dict[str, str]:
    """The variables that packages set: `files` are (package, path, content) of what lies in VARIABLES_DIRECTORY.

    As conda's activation does: JSON objects in the order of their file names, the later wins. Raises PackageRefused.
    """
    variables: dict[str, str] = {}
    for package, path, content in sorted(files, key=lambda file: file[1]):
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise PackageRefused(package, f"{path} is not JSON: {error}") from error
        if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
            raise PackageRefused(package, f"{path} must be a JSON object of strings, which become variables")
        broken = [name for name, value in document.items() if not name or "=" in name or "\0" in name + value]
        if broken:
            raise PackageRefused(package, f"{path} sets {broken[0]!r}, which no environment variable can be")
        variables |= document
    return variables


def _lock_file(lock: Lock, platform: str, prefix: str) -> LayerMember:
    try:
        return LayerMember(f"{prefix}/conda-meta/conda-lock.yml", conda_lock_yaml(lock))
    except FormatUnsuitable:
        return LayerMember(f"{prefix}/conda-meta/explicit.txt", explicit_text(lock, platform))


def _path_entries(installed: InstalledPackage) -> list[dict[str, Any]]:
    """`paths_data.paths`: hash as packaged, hash and size of what lies in the image; sorted by path."""
    contents, written, excluded = installed.contents, installed.written, installed.excluded
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


def _parents(path: str) -> Iterable[str]:
    parent = path.rpartition("/")[0]
    while parent:
        yield parent
        parent = parent.rpartition("/")[0]
