"""Each write of a pushed byte to a file fails once: the client is told, nothing of it is left, the next push works."""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from registry.http.direct import LEAST
from storage.digest import Digest
from storage.objects import files
from tests.support.registry.pushes import Pusher
from tests.support.registry.serving import serving

TOLD = {errno.EIO: 503, errno.ENOSPC: 507}


class Disk:
    """Opens files; the write that `left` counts down to fails with `error`."""

    def __init__(self, error: int) -> None:
        self._error = error
        self.left = 0

    def open(self, path: Path, mode: str, **options: Any) -> IO[bytes]:
        return _File(self, path, mode) if "x" in mode else open(path, mode, **options)

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self._error, os.strerror(self._error))


class _File(io.FileIO):
    def __init__(self, disk: Disk, path: Path, mode: str) -> None:
        super().__init__(path, mode.replace("b", ""))
        self._disk = disk

    def write(self, data: Any) -> int:
        self._disk.step()
        return super().write(data)


async def whole(push: Pusher, data: bytes) -> list[int]:
    return [(await push.whole("a", data, Digest.of(data))).status]


async def in_chunks(push: Pusher, data: bytes) -> list[int]:
    location, half = await push.open("a"), len(data) // 2
    first = await push.chunk(location, data[:half], 0)
    if first.status != 202:
        return [first.status]
    last = await push.finish(first.headers["Location"], Digest.of(data), data[half:], half)
    return [first.status, last.status]


@pytest.mark.parametrize("way", [whole, in_chunks])
@pytest.mark.parametrize("size", [1_000, 2 * LEAST + 12_345])
@pytest.mark.parametrize("error", TOLD)
async def test_every_write(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
    size: int,
    way: Callable[[Pusher, bytes], Any],
) -> None:
    disk = Disk(error)
    monkeypatch.setattr(files, "open", disk.open, raising=False)
    async with serving(tmp_path) as site:
        push = Pusher(site)
        for number in itertools.count(1):
            data = os.urandom(size)
            disk.left = number
            status = (await way(push, data))[-1]
            failed = status != 201
            if failed:
                assert status == TOLD[error]
                assert (await push.site_get("a", Digest.of(data))).status == 404
            assert failed == (disk.left <= 0)
            disk.left = 0
            assert (await way(push, data))[-1] == 201
            assert await push.read("a", Digest.of(data)) == data
            if not failed:
                break
            assert list((tmp_path / "blobs").rglob(".part-*")) == []
    assert number > 1
