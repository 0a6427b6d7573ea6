"""The metadata of wheels, found once: the index's word for it (PEP 658) if it gives one, else read from the wheel.

It is kept by the index, too: one that gives the hash of another's wheel may say of it what it likes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cachetools import LRUCache

from builder.canonical import make_key
from builder.channels.logins import Logins
from builder.errors import IndexRefused
from builder.pypi.client import IndexClient
from builder.pypi.core_metadata import CoreMetadata, parse_metadata, read_wheel_metadata
from builder.pypi.view import Link
from builder.work.pool import WorkerPool
from builder.work.single_flight import SingleFlight
from storage.disk.files import atomic_write, mark_used

_MOST_PARSED = 1 << 13

FetchWheel = Callable[[str, Link, Logins], Awaitable[Path]]
"""Returns the verified wheel of an index, downloaded."""


@dataclass(frozen=True)
class WheelMetadata:
    """What was read with credentials is kept under other keys than what everybody may read."""

    folder: Path
    client: IndexClient
    pool: WorkerPool
    fetch_wheel: FetchWheel
    _flights: SingleFlight[str, bytes] = field(default_factory=SingleFlight)
    _parsed: LRUCache[str, CoreMetadata] = field(default_factory=lambda: LRUCache(_MOST_PARSED))

    async def close(self) -> None:
        await self._flights.close()

    async def find(self, index: str, link: Link, logins: Logins) -> bytes:
        """Raises IndexUnavailable, IndexRefused, DownloadFailed, PackageRefused."""
        path = self._place(index, link, logins)
        return await self._flights.do(str(path), lambda: self._find(path, index, link, logins))

    async def parse(self, index: str, link: Link, logins: Logins) -> CoreMetadata:
        """The same, parsed. Raises PackageRefused as well."""
        key = str(self._place(index, link, logins))
        if key not in self._parsed:
            content = await self.find(index, link, logins)
            self._parsed[key] = await asyncio.to_thread(parse_metadata, content, _name(link))
        return self._parsed[key]

    async def _find(self, path: Path, index: str, link: Link, logins: Logins) -> bytes:
        if (kept := await asyncio.to_thread(_recall, path)) is not None:
            return kept
        content = await self._ask(index, link, logins) if link.metadata is not None else None
        if content is None:
            wheel = await self.fetch_wheel(index, link, logins)
            content = await self.pool.run(f"reading {wheel.name}", read_wheel_metadata, wheel, _name(link))
        await asyncio.to_thread(_keep, path, content)
        return content

    async def _ask(self, index: str, link: Link, logins: Logins) -> bytes | None:
        content = await self.client.find_metadata(index, link.url, logins)
        if content is None or not link.metadata:
            return content
        found = hashlib.sha256(content).hexdigest()
        if found != link.metadata:
            raise IndexRefused(
                index, f"the metadata of {_name(link)} has sha256 {found}, but the index says {link.metadata}"
            )
        return content

    def _place(self, index: str, link: Link, logins: Logins) -> Path:
        key = make_key("wheel metadata", [index, link.url, link.sha256, link.metadata, logins.key])
        return self.folder / key[:2] / f"{key}.metadata"


def _name(link: Link) -> str:
    return link.url.rpartition("/")[2]


def _recall(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    mark_used(path)
    return content


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, durable=False) as file:
        file.write(content)
