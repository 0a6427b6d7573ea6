"""The files of an OCI layout (image-spec, image-layout.md) on their way into a directory or a tar.

An output appears whole or not at all. Functions block; content passes in chunks, so memory does not grow with it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from builder.base.layers import ChunkReader
from builder.errors import PublishFailed
from storage.digest import Descriptor, Digest
from storage.disk.files import TEMPORARY, atomic_write, sync_directory
from storage.errors import StorageFull

LAYOUT_MARKER = b'{"imageLayoutVersion":"1.0.0"}'
MARKER_NAME = "oci-layout"
INDEX_NAME = "index.json"

Add = Callable[[str, int, Iterable[bytes]], None]
"""Adds a file by its path in the layout, its size in bytes and its content."""


def locate_blob(digest: Digest) -> str:
    """The path of a blob in a layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


@contextlib.contextmanager
def writing_directory(directory: Path, umask: int | None = None) -> Iterator[Add]:
    """Write a layout into a new or empty directory. `umask` replaces the process's.

    Raises PublishFailed, StorageFull.
    """
    target = str(directory)
    if os.path.lexists(directory) and (not directory.is_dir() or any(directory.iterdir())):
        raise PublishFailed(target, "it already exists; name a new directory")
    temporary = directory.with_name(f"{TEMPORARY}{secrets.token_hex(8)}-{directory.name}")
    try:
        with as_publish_error(target):
            _make_folder(temporary, umask)
            yield lambda name, _, content: _write_file(temporary / name, content, umask)
            os.replace(temporary, directory)
            sync_directory(directory.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def writing_tar(path: Path, umask: int | None = None) -> Iterator[Add]:
    """Write a layout into a tar, which replaces an existing file. `umask` replaces the process's.

    Raises PublishFailed, StorageFull.
    """
    with as_publish_error(str(path)):
        _make_folder(path.parent, umask)
        with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w|") as tar:
            _set_mode(file.fileno(), 0o666, umask)
            yield lambda name, size, content: _add_member(tar, name, size, content)


def verify(target: str, blob: Descriptor, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a stored blob.

    Raises PublishFailed at their end if they are not what its descriptor says.
    """
    damaged = PublishFailed(target, f"the stored blob {blob.digest} is damaged")
    hasher = blob.digest.hasher()
    size = 0
    try:
        for chunk in chunks:
            hasher.update(chunk)
            size += len(chunk)
            yield chunk
    except EOFError:
        raise damaged from None
    if hasher.hexdigest() != blob.digest.hex or size != blob.size:
        raise damaged


def _make_folder(path: Path, umask: int | None) -> None:
    """Make a directory and its missing parents."""
    if not path.is_dir():
        _make_folder(path.parent, umask)
        path.mkdir(exist_ok=True)
        _set_mode(path, 0o777, umask)


def _set_mode(file: Path | int, most: int, umask: int | None) -> None:
    """Set the mode that a file made with `most` has under `umask`; None means the process's, which already applied.

    A process has one umask: changing it for one output would change it for whatever other threads write meanwhile.
    """
    if umask is not None:
        inherited = os.stat(file).st_mode & 0o7000
        os.chmod(file, inherited | most & ~umask)


def _write_file(path: Path, content: Iterable[bytes], umask: int | None) -> None:
    _make_folder(path.parent, umask)
    with open(path, "wb") as file:
        _set_mode(file.fileno(), 0o666, umask)
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())


def _add_member(tar: tarfile.TarFile, name: str, size: int, content: Iterable[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    with io.BufferedReader(ChunkReader(content)) as file:
        tar.addfile(member, file)
        # addfile stops at the announced size; the end of the content checks its digest
        while file.read(1 << 16):
            pass


@contextlib.contextmanager
def as_publish_error(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(target) from error
        raise PublishFailed(target, error.strerror or str(error)) from None
