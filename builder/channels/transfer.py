"""Transfers one archive's bytes from a server, over one connection or several."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import structlog

from builder.channels.part_file import PartFile
from builder.locks.lock import LockedPackage
from builder.network.addresses import split_endpoint
from builder.network.pace import Pace
from storage.cancellation import to_end

log = structlog.get_logger(__name__)

_CHUNK = 1 << 20
UNSAID = 4 << 30
"""Bytes of the largest archive whose record gives no size."""
_FINAL = frozenset({400, 401, 403, 404, 405, 410, 451})
"""Statuses that another attempt will not change."""


Received = Callable[[int, int | None], None]
"""Called on the event loop with the bytes so far and the size, which is None if the channel does not say."""


@dataclass(frozen=True)
class Problem:
    """Why an attempt did not complete the archive. `retry_after` is in seconds.

    `final`: another attempt is useless. `slow`: what it brought does not count. `gave_way`: it does not count as an
    attempt.
    """

    reason: str
    final: bool = False
    retry_after: float = 0.0
    slow: bool = False
    gave_way: bool = False


class Transfer:
    """One archive's bytes, over one connection or several."""

    def __init__(
        self,
        package: LockedPackage,
        part: PartFile,
        received: Received,
        pace: Pace,
        kept_for: float,
        redact: Callable[[str], str],
    ) -> None:
        """`redact` removes the secrets that are sent."""
        self.package = package
        self.pace = pace
        self.kept_for = kept_for
        """Seconds for which a connection does not give way to those who have as many."""
        self._part = part
        self._received = received
        self.redact = redact
        self._validator: str | None = None
        self._resumable = True
        """Whether another connection can resume where this one ends, as far as its answer tells."""

    def give_way(self) -> None:
        """Note that the connection gave way.

        If the next one must start over, it is kept twice as long, so that one completes.
        """
        if not self._resumable:
            self.kept_for *= 2
            self._resumable = True

    def is_complete(self) -> bool:
        return self._part.size == self.package.size

    def make_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest.

        A part from an earlier process has no validator; the hash checks it.
        """
        if not self._part.size:
            return {}
        condition = {"If-Range": self._validator} if self._validator else {}
        return {"Range": f"bytes={self._part.size}-", **condition}

    async def take(self, response: aiohttp.ClientResponse) -> Problem | None:
        """Append what `response` brings. Returns None once the last byte has come, or one too many."""
        if response.status not in (200, 206):
            return await self._explain_refusal(response)
        ranges = response.headers.get("Accept-Ranges", "").lower() == "bytes" and not self._part.size
        self._resumable = response.status == 206 or ranges
        begin = _find_start(response)
        if begin != self._part.size:
            await asyncio.to_thread(self._part.restart)
            if begin:
                return Problem("it sent a different range from the one requested")
        etag = response.headers.get("ETag", "")
        self._validator = etag if etag.startswith('"') else None
        size = self.package.size
        async for chunk in response.content.iter_chunked(_CHUNK):
            # a thread cannot be interrupted, and must not write to a part that another connection resumes
            await to_end(asyncio.to_thread(self._part.append, chunk))
            self.pace.note(len(chunk))
            self._received(self._part.size, size)
            if size is not None and self._part.size > size:
                return None
            if size is None and self._part.size > UNSAID:
                return Problem(f"it has more than {UNSAID >> 20} MiB; its channel's index gives no size", final=True)
        if size is None or self.is_complete():
            return None
        return Problem(f"it ended after {self._part.size} of {size} bytes")

    async def _explain_refusal(self, response: aiohttp.ClientResponse) -> Problem:
        if response.status == 416:
            reason = f"it has no bytes after the first {self._part.size} of {self.package.size}"
            await asyncio.to_thread(self._part.restart)
            return Problem(reason)
        where = urlsplit(str(response.url))._replace(query="").geturl()
        if split_endpoint(where) != split_endpoint(self.package.url):
            # what another host says is only for that host's own clients
            log.warning(
                "package download failed after a redirect",
                package=str(self.package),
                url=self.redact(where),
                status=response.status,
            )
            return Problem("its channel redirects to an address that does not have it", response.status in _FINAL)
        reason = f"{where} answers {response.status} {response.reason or ''}".rstrip()
        if response.status in (401, 403):
            reason += "; the credentials for its host are missing or wrong"
        after = response.headers.get("Retry-After", "")
        return Problem(reason, response.status in _FINAL, float(after) if re.fullmatch("[0-9]{1,9}", after) else 0.0)


def _find_start(response: aiohttp.ClientResponse) -> int:
    """Return the byte at which the body starts; -1 for a partial answer that does not say."""
    if response.status == 200:
        return 0
    match = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1
