"""The only index that uv gets to see: a server on loopback, which asks the real ones by our own rules.

uv reaches it as a proxy, so that its addresses, by which uv remembers answers, are the same in every run. It answers
nothing else: no CONNECT, no other host, nobody without the secret of its run. Credentials, redirects, bounds, internal
addresses and the order of indexes are thereby matters of `builder.pypi.client`, and a file that is denied, yanked, too
new or no wheel is not there for uv.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson
import structlog
from packaging.utils import canonicalize_name

from builder.channels.logins import Logins
from builder.errors import RequirementRefused
from builder.network.loopback import LoopbackServer
from builder.pypi.client import IndexClient
from builder.pypi.page import JSON
from builder.pypi.view import Link, Shown, View
from builder.pypi.wheel_metadata import WheelMetadata
from storage.errors import ConderyError

log = structlog.get_logger(__name__)

_HEAD_BYTES = 16 << 10
_MOST_CONNECTIONS = 2000
"""Many times as many as uv opens."""
_HEAD_SECONDS = 60.0
MOST_PAGES = 3000
"""Packages that one solve may look at."""
MOST_FILES = 200_000
"""Files of all pages of one solve, which are kept while it lasts: numpy has 6,000, and 300 packages some 100,000."""
MOST_METADATA = 256 << 20
"""Bytes of metadata that one solve may read, and keep on disk."""
FRESH = 600
"""Seconds for which uv does not ask for a page again."""
_FOREVER = 31_536_000


@dataclass
class Session:
    """One solve: what it may see, what it was shown, and the first thing that went wrong."""

    view: View
    logins: Logins
    client: IndexClient
    metadata: WheelMetadata
    shown: dict[str, Shown | None] = field(default_factory=dict)
    """By name (PEP 503); None for what no index has."""
    failure: ConderyError | None = None
    files: int = 0
    """Of all pages."""
    bytes_read: int = 0
    """Of metadata."""

    async def look(self, name: str) -> Shown | None:
        """What uv is shown of a package: of the first index that has it. Raises IndexUnavailable, IndexRefused."""
        if name not in self.shown:
            self.shown[name] = await self._look(name)
        return self.shown[name]

    async def _look(self, name: str) -> Shown | None:
        for index in self.view.indexes:
            page = await self.client.find_page(index, name, self.logins)
            if page is not None:
                self.files += len(page.files) + page.unusable
                if self.files > MOST_FILES:
                    raise RequirementRefused(
                        name, f"the solve looks at more than {MOST_FILES} files; ask for narrower versions"
                    )
                return await asyncio.to_thread(self.view.show, name, page)
        return None

    async def find_metadata(self, link: Link) -> bytes:
        content = await self.metadata.find(self.view.indexes[link.index], link, self.logins)
        self.bytes_read += len(content)
        if self.bytes_read > MOST_METADATA:
            raise RequirementRefused(
                link.url.rpartition("/")[2],
                f"the solve reads more than {MOST_METADATA >> 20} MiB of metadata; ask for narrower versions",
            )
        return content


class Gateway(LoopbackServer):
    """Serves one session at `url` while it is entered."""

    def __init__(self, session: Session) -> None:
        super().__init__("uv", _HEAD_BYTES, _MOST_CONNECTIONS)
        self._session = session

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            while True:
                async with asyncio.timeout(_HEAD_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                status, headers, body = await self._answer(head)
                lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
                writer.write("\r\n".join(lines).encode() + body)
                await writer.drain()
                if status != _OK and status != _LACKS:
                    break

    async def _answer(self, head: bytes) -> tuple[str, list[str], bytes]:
        first, *lines = head.split(b"\r\n")
        method, target, _ = first.decode("ascii").split(" ")
        shown = [line.partition(b":")[2].strip() for line in lines if line.lower().startswith(b"proxy-authorization:")]
        if len(shown) != 1 or not self.is_authorized(shown[0]):
            return "407 Refused", [], b""
        parts = urlsplit(target)
        if method != "GET" or parts.scheme != "http" or parts.netloc != self._session.view.host or parts.query:
            return "403 Forbidden", [], b""
        try:
            return await self._find(parts.path)
        except ConderyError as error:
            # uv tries some statuses again; it need not, as everything was tried
            self._session.failure = self._session.failure or error
            log.info("not given to uv", path=parts.path, reason=str(error))
            return "403 Forbidden", [], b""

    async def _find(self, path: str) -> tuple[str, list[str], bytes]:
        if path.startswith("/simple/"):
            return await self._find_page(path.removeprefix("/simple/").strip("/"))
        link = Link.parse(path.removesuffix(".metadata")) if path.endswith(".metadata") else None
        if link is None or link.index >= len(self._session.view.indexes):
            return _LACKS, [], b""
        content = await self._session.find_metadata(link)
        return _OK, ["Content-Type: text/plain", f"Cache-Control: max-age={_FOREVER}, immutable"], content

    async def _find_page(self, name: str) -> tuple[str, list[str], bytes]:
        if name != canonicalize_name(name) or not name.isascii():
            return _LACKS, [], b""
        if len(self._session.shown) >= MOST_PAGES:
            raise RequirementRefused(
                name, f"the solve looks at more than {MOST_PAGES} packages; ask for narrower versions"
            )
        shown = await self._session.look(name)
        if shown is None:
            return _LACKS, [], b""
        body = await asyncio.to_thread(orjson.dumps, shown.document)
        return _OK, [f"Content-Type: {JSON}", f"Cache-Control: max-age={FRESH}"], body


_OK = "200 OK"
_LACKS = "404 Not Found"
