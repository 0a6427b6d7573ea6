"""Asks indexes: pages of packages, and metadata of wheels (PEP 658). Everything has bounds, and goes by the guard."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import structlog

from builder.channels.asking import Asking
from builder.channels.channel import Credentials
from builder.channels.index_policy import IndexPolicy
from builder.channels.logins import Logins
from builder.errors import IndexRefused, IndexUnavailable
from builder.network.addresses import InternalAddress
from builder.pypi.page import ACCEPT, IndexPage, PageRefused, read_page
from builder.work.pool import WorkerPool
from storage.text import printable_line

log = structlog.get_logger(__name__)

_CHUNK = 1 << 18
_SMALL = 1 << 18
"""Bytes of a page up to which it is read here; a larger one is read in a worker process."""
_LARGEST_METADATA = 4 << 20
_ATTEMPTS = 3
_LACKING = frozenset({404, 410})


class _Later(Exception):
    """Another attempt may succeed."""


@dataclass(frozen=True)
class IndexClient:
    """`seconds` is for one answer without progress; `largest` are the bytes of the largest page."""

    policy: IndexPolicy
    credentials: Credentials
    pool: WorkerPool
    seconds: float = 30
    largest: int = 64 << 20
    most: int = 32
    """Connections for each set of internal hosts."""
    _asking: list[Asking] = field(default_factory=list)

    async def close(self) -> None:
        for asking in self._asking:
            await asking.close()
        self._asking.clear()

    async def find_page(self, index: str, name: str, logins: Logins) -> IndexPage | None:
        """What `index` says of the package `name` (PEP 503); None if it does not have it.

        Raises IndexUnavailable, IndexRefused.
        """
        url = f"{index}/{name}/"
        found = await self._ask(index, url, {"Accept": ACCEPT}, self.largest, "pypi_page_size", logins)
        if found is None:
            return None
        where, kind, content = found
        try:
            if len(content) <= _SMALL:
                return read_page(index, where, kind, content)
            return await self.pool.run(f"reading {url}", read_page, index, where, kind, content)
        except PageRefused as error:
            raise IndexRefused(index, f"what it says of {name} cannot be used: {error}") from None

    async def find_metadata(self, index: str, url: str, logins: Logins) -> bytes | None:
        """The metadata beside the wheel at `url`; None if there is none. Raises IndexUnavailable, IndexRefused."""
        found = await self._ask(index, f"{url}.metadata", {}, _LARGEST_METADATA, "", logins)
        return found[2] if found else None

    async def _ask(
        self, index: str, url: str, headers: dict[str, str], largest: int, setting: str, logins: Logins
    ) -> tuple[str, str, bytes] | None:
        """Return the address that answered, the type and the content."""
        for attempt in range(_ATTEMPTS):
            try:
                return await self._ask_once(index, url, headers, largest, setting, logins)
            except _Later as error:
                reason = str(error)
            await asyncio.sleep(0.2 * 2**attempt)
        raise IndexUnavailable(index, self._redact(reason, logins))

    async def _ask_once(
        self, index: str, url: str, headers: dict[str, str], largest: int, setting: str, logins: Logins
    ) -> tuple[str, str, bytes] | None:
        try:
            async with asyncio.timeout(4 * self.seconds), self._get(index, url, headers, logins) as response:
                if response.status in _LACKING:
                    return None
                if response.status != 200:
                    raise self._explain(index, url, response, logins)
                content = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK):
                    content += chunk
                    if len(content) > largest:
                        limit = f"the allowed {largest >> 20} MiB" + (f" (setting {setting})" if setting else "")
                        raise IndexRefused(index, f"its answer for {url} has more than {limit}")
                return str(response.url), response.headers.get("Content-Type", ""), bytes(content)
        except InternalAddress as error:
            log.warning("index refers to an internal address", index=index, host=error.host)
            raise IndexRefused(
                index,
                f"it refers to {error.host}, an internal address; only internal hosts that the settings name are "
                "contacted",
            ) from None
        except TimeoutError:
            raise _Later(f"{urlsplit(url).netloc} does not answer within {self.seconds:g} s") from None
        except aiohttp.ClientError as error:
            raise _Later(printable_line(str(error))[:300] or type(error).__name__) from None
        except ValueError:
            raise _Later("it answers with an invalid header") from None

    def _explain(self, index: str, url: str, response: aiohttp.ClientResponse, logins: Logins) -> Exception:
        hint = "; the credentials for its host are missing or wrong" if response.status in (401, 403) else ""
        text = f"{url} answers {response.status}{hint}"
        if response.status >= 500 or response.status in (408, 429):
            return _Later(text)
        return IndexUnavailable(index, self._redact(text, logins))

    def _get(
        self, index: str, url: str, headers: dict[str, str], logins: Logins
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if not self._asking:
            self._asking.append(Asking(self.credentials, self.most, self.seconds))
        return self._asking[0].get(url, index, self.policy, headers, logins)

    def _redact(self, text: str, logins: Logins) -> str:
        return logins.redact(self.credentials.redact(text))
