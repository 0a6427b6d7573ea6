"""The last, tiny layer: it turns a folder of files into a conda environment, and starts the container in it.

It holds `conda-meta/<name>-<version>-<build>.json` for every package, `conda-meta/history`, the lock file, the
entrypoint and the home of the non-root user. These are pure functions over facts; all times are the newest package's.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.resources
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from builder.archives import tar
from builder.archives.file_part import FilePart
from builder.archives.tar_member import TarMember
from builder.errors import FormatUnsuitable
from builder.image.documents import HOME, ImageLayer
from builder.layers.codec import CODEC
from builder.layers.compressor import Compressor
from builder.locks.description import find_newest
from builder.locks.formats import CONDA_LOCK, EXPLICIT
from builder.locks.lock import Lock, LockedPackage
from builder.packages.prefix_record import write_prefix_record
from builder.packages.starting_files import STATE
from storage.digest import Descriptor, Digest

ENTRYPOINT = ".condery/entrypoint"
"""Path of the entrypoint under the prefix."""

ACTIVATION = ".condery/activate.sh"
"""Activates a shell. The entrypoint sources it and, if bash starts without the entrypoint, so does bash (BASH_ENV)."""

SHELLS = ("bin/bash", "bin/dash", "bin/sh")
"""Paths under the prefix, in order of preference."""

_CHUNK = 1 << 20
"""Bytes passed to the codec at a time; the compressed bytes depend on it."""


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package as it is in the image."""

    package: LockedPackage
    paths: FilePart
    """The paths for its prefix record, from `builder.packages.prefix_record.write_paths`."""


@dataclass(frozen=True, slots=True)
class EnvironmentLayer:
    """The finished layer: its bytes, and what the image says about it."""

    content: bytes
    layer: ImageLayer


def list_members(
    lock: Lock,
    platform: str,
    installed: Sequence[InstalledPackage],
    *,
    shell: str | None,
    user: int | None = None,
    state: bytes | None = None,
) -> list[TarMember]:
    """List the layer's members for `platform`, without the directories that lead to them.

    `shell` is the absolute path of the image's shell, see `find_shell`; without one there is no entrypoint. `user` gets
    a home. `state` is what `builder.image.variables.write_state` wrote, if the environment has variables.
    """
    prefix = lock.spec.prefix.strip("/")
    requested = {item.name: item.match_spec() for item in lock.spec.items}
    result = [record_package(f"{prefix}/", each, requested.get(each.package.name)) for each in installed]
    result.append(TarMember(f"{prefix}/conda-meta/history", write_history(lock, platform)))
    result.append(_write_lock_file(lock, platform, prefix))
    if state is not None:
        result.append(TarMember(f"{prefix}/{STATE}", state))
    if shell:
        result.append(TarMember(f"{prefix}/{ENTRYPOINT}", write_entrypoint(shell), 0o755))
        result.append(TarMember(f"{prefix}/{ACTIVATION}", write_activation()))
    if user is not None:
        result.append(TarMember(HOME.strip("/"), None, 0o755, user))
    return result


def record_package(folder: str, installed: InstalledPackage, match_spec: str | None) -> TarMember:
    """Write the package's record in `conda-meta`, below `folder`.

    `match_spec` is set if the user asked for this package.
    """
    package, paths = installed.package, installed.paths
    return TarMember(
        f"{folder}conda-meta/{package}.json",
        write_prefix_record(package, match_spec),
        rest=FilePart(paths.path, paths.start + 1, paths.size - 1),
    )


def compress_layer(
    contents: Iterable[TarMember], modified: int, packages: Sequence[str] = ("environment",)
) -> EnvironmentLayer:
    """Compress `contents` into a layer.

    Every directory comes once, before its content. `modified` is in seconds UTC.
    """
    pieces: list[bytes] = []
    digest, diff_id = hashlib.sha256(), hashlib.sha256()
    compressor = Compressor(pieces.append, digest, diff_id, _CHUNK)
    for piece in write_tar(contents, modified):
        compressor.add(piece)
    compressor.finish()
    descriptor = Descriptor(CODEC.media_type, Digest(f"sha256:{digest.hexdigest()}"), compressor.size)
    return EnvironmentLayer(
        b"".join(pieces), ImageLayer(descriptor, Digest(f"sha256:{diff_id.hexdigest()}"), tuple(packages))
    )


def write_tar(contents: Iterable[TarMember], modified: int) -> Iterator[bytes]:
    """Write the archive in pieces."""
    ordered = sorted(contents, key=lambda member: member.path)
    explicit = {member.path for member in ordered if member.content is None}
    parents = {parent for member in ordered for parent in _list_parents(member.path)} - explicit
    directories = [TarMember(path, None, 0o755) for path in parents]
    for member in sorted([*ordered, *directories], key=lambda member: member.path.split("/")):
        yield from member.pieces(modified)
    yield tar.END


def write_history(lock: Lock, platform: str) -> bytes:
    """Write `conda-meta/history`: one revision that adds every package for the requested specs (conda `history.py`)."""
    packages = lock.packages[platform]
    moment = datetime.datetime.fromtimestamp(find_newest(packages) // 1000, datetime.UTC)
    specs = lock.spec.match_specs()
    lines = [
        f"==> {moment:%Y-%m-%d %H:%M:%S} <==",
        f"# cmd: condery build {' '.join(json.dumps(spec) for spec in specs)}",
        # conda knows nothing of wheels
        *sorted(f"+{each.channel}/{each.subdir}::{each}" for each in packages if not each.is_wheel),
        f"# update specs: {specs!r}",
    ]
    return "\n".join([*lines, ""]).encode()


def write_entrypoint(shell: str) -> bytes:
    """Write the script at ENTRYPOINT, to be run by `shell`, an absolute path."""
    return f"#!{shell}\n".encode() + _read_script("entrypoint.sh")


def write_activation() -> bytes:
    """Write the script at ACTIVATION, for any POSIX shell to source."""
    return _read_script("activate.sh")


def _read_script(name: str) -> bytes:
    return importlib.resources.files("builder.image").joinpath(name).read_bytes()


def find_shell(prefix: str, installed: Collection[str], base_shell: str | None) -> str | None:
    """Choose a shell of the image: bash, for which activation scripts are written, else the base's.

    `installed` has the SHELLS that packages install; `base_shell` is an absolute path.
    """
    if SHELLS[0] in installed:
        return f"{prefix}/{SHELLS[0]}"
    if base_shell:
        return base_shell
    return f"{prefix}/{min(installed, key=SHELLS.index)}" if installed else None


def _write_lock_file(lock: Lock, platform: str, prefix: str) -> TarMember:
    written = CONDA_LOCK
    try:
        content = written.write(lock, platform)
    except FormatUnsuitable:
        written = EXPLICIT
        content = written.write(lock, platform)
    return TarMember(f"{prefix}/conda-meta/{written.file_name}", content)


def _list_parents(path: str) -> Iterable[str]:
    parent = path.rpartition("/")[0]
    while parent:
        yield parent
        parent = parent.rpartition("/")[0]
