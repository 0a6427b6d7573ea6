"""The deny list of the settings: versions that are known to be bad, from a file or an address, read again and again.

What was read last holds until something better comes: a list that cannot be had, or that makes no sense, takes nothing
back. A copy is kept in the data directory, so that this is so after a restart as well, and so that the processes of a
machine ask for the list once. Until there is any, nothing is allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp
import structlog

from builder.channels.channel import Credentials
from builder.errors import PolicyUnavailable
from builder.network.addresses import AddressGuard, InternalAddress, split_endpoint
from builder.network.routes import Routes
from builder.policy.deny_list_text import parse_deny_list, says_its_length
from builder.policy.rules import DENY_LIST, Rules
from storage.clock import is_within
from storage.disk.files import atomic_write
from storage.text import redact

log = structlog.get_logger(__name__)

LARGEST = 16 << 20
"""Bytes of a list."""
FETCH_SECONDS = 60.0
SILENT_SECONDS = 20.0
MOST_REDIRECTS = 5
SIGHTS = 3
"""How often a list that lacks most of the one that holds has to be read before it holds."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PAGES = frozenset({"text/html", "application/xhtml+xml"})


class ListBroken(Exception):
    """Why a list cannot be used, as a sentence without its place."""

    kept = "kept, since it cannot be read"


class ListDoubtful(ListBroken):
    """A list that may be what is left of another."""

    kept = "kept, since the new one lacks most of it"


class DenyList:
    """One list. `status` says in a few words how it stands, for the health of the server."""

    def __init__(self, place: str, folder: Path, alias: str, routes: Routes, credentials: Credentials) -> None:
        self.status = "never read"
        self._place = place
        self._copy = folder / f"deny-list-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
        self._alias = alias
        self._routes = routes
        self._credentials = credentials
        self._content: bytes | None = None
        self._rules: Rules | None = None
        self._problem = "it has not been read yet"
        self._doubted = b""
        """What was read last, if it lacks most of what holds."""
        self._sights = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        place: str,
        refresh: float,
        folder: Path,
        alias: str,
        credentials: Credentials,
        changed: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Self]:
        """Read it now, and every `refresh` seconds while the block runs; `changed` is called when it is another."""
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        # the settings name its host, which may be inside; where that sends us may not
        routes = Routes(AddressGuard({split_endpoint(place)} - {""}), 1, SILENT_SECONDS)
        found = cls(place, folder, alias, routes, credentials)
        await found._take_copy()
        await found.refresh(0)
        task = asyncio.create_task(found._refresh_forever(refresh, changed))
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await routes.close()

    @property
    def rules(self) -> Rules:
        """Raises PolicyUnavailable while there are none."""
        if self._rules is None:
            raise PolicyUnavailable(f"the deny list {redact(self._place)}", self._problem)
        return self._rules

    async def refresh(self, seconds: float) -> bool:
        """Read it again, unless a process of this machine did so in the last `seconds`; whether it is another now."""
        try:
            content, known = await self._read(seconds)
            changed = await self._take(content, known=known)
        except ListBroken as error:
            self._problem = self._credentials.redact(str(error))
            self.status = error.kept if self._rules else "never read: nothing is allowed"
            log.warning("deny list not read", place=redact(self._place), reason=self._problem, kept=bool(self._rules))
            return False
        self.status = "ok"
        return changed

    async def _refresh_forever(self, seconds: float, changed: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            if await self.refresh(seconds / 2):
                changed()

    async def _take(self, content: bytes, *, known: bool) -> bool:
        """Let it hold from now on; `known` if it held already, for another process. Raises ListBroken."""
        if content == self._content:
            self._sights = 0
            return False
        try:
            rules = await asyncio.to_thread(_make_rules, content, self._alias)
        except ValueError as error:
            raise ListBroken(str(error)) from None
        if not known and self._rules and _lacks_most(self._rules, rules) and not says_its_length(content):
            self._doubt(content)
        self._content, self._rules, self._sights = content, rules, 0
        # another process may have written it
        if not await asyncio.to_thread(self._is_copied, content):
            await asyncio.to_thread(self._write_copy, content)
        log.info("deny list read", place=redact(self._place), entries=len(rules.denied_packages))
        return True

    def _doubt(self, content: bytes) -> None:
        """Raises ListDoubtful until the same was read SIGHTS times."""
        self._sights = self._sights + 1 if content == self._doubted else 1
        self._doubted = content
        if self._sights < SIGHTS:
            raise ListDoubtful(
                f"it lacks most of the entries of the one that holds; it will hold if it is read {SIGHTS} times, or "
                "says how many entries it has"
            )

    async def _take_copy(self) -> None:
        """What held before a restart."""
        with contextlib.suppress(ListBroken, OSError):
            await self._take(await asyncio.to_thread(_read_file, self._copy), known=True)

    async def _read(self, seconds: float) -> tuple[bytes, bool]:
        """The list, and whether it held already for another process. Raises ListBroken."""
        if "://" not in self._place:
            try:
                return await asyncio.to_thread(_read_file, Path(self._place)), False
            except OSError as error:
                raise ListBroken(error.strerror or "it cannot be read") from None
        with contextlib.ExitStack() as stack:
            lock = self._copy.with_suffix(".lock")
            alone = await asyncio.to_thread(lambda: stack.enter_context(_locked(lock)))
            if not alone or (seconds and await asyncio.to_thread(self._is_young, seconds)):
                with contextlib.suppress(OSError):
                    return await asyncio.to_thread(_read_file, self._copy), True
            content = await self._fetch()
            if await asyncio.to_thread(self._is_copied, content):
                await asyncio.to_thread(os.utime, self._copy)
            return content, False

    async def _fetch(self) -> bytes:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                return await self._follow()
        except InternalAddress as error:
            raise ListBroken(f"it refers to {error.host}, which has an internal address") from None
        except TimeoutError:
            raise ListBroken(f"no complete answer within {FETCH_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ListBroken(f"it cannot be fetched ({type(error).__name__})") from None

    async def _follow(self) -> bytes:
        url = self._place
        for _ in range(MOST_REDIRECTS + 1):
            address = url
            headers: dict[str, str] = {}
            credential = self._credentials.for_url(url)
            if credential and split_endpoint(url) == split_endpoint(self._place):
                address, headers = credential.authorize(url)
            async with self._routes.get(address, headers) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    url = _redirect(url, response.headers["Location"])
                    continue
                if response.status != HTTPStatus.OK:
                    raise ListBroken(f"its server answers {response.status}")
                _check_answer(response)
                return await _read_limited(response)
        raise ListBroken("it redirects without end")

    def _is_young(self, seconds: float) -> bool:
        try:
            return is_within(seconds, self._copy.stat().st_mtime)
        except OSError:
            return False

    def _is_copied(self, content: bytes) -> bool:
        try:
            return self._copy.read_bytes() == content
        except OSError:
            return False

    def _write_copy(self, content: bytes) -> None:
        with atomic_write(self._copy) as file:
            file.write(content)


def _make_rules(content: bytes, alias: str) -> Rules:
    denials = parse_deny_list(content, alias)
    rules = Rules(
        source=DENY_LIST,
        denied_packages=denials,
        written={"denied_packages": [each.line for each in denials]},
    )
    # both take a while for a long list, and are wanted by the event loop
    _ = rules.key, rules.denials
    return rules


def _read_file(path: Path) -> bytes:
    """Raises OSError, ListBroken."""
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ListBroken(f"it has more than {LARGEST >> 20} MiB")
    return content


async def _read_limited(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST:
            raise ListBroken(f"it has more than {LARGEST >> 20} MiB")
    return bytes(body)


def _check_answer(response: aiohttp.ClientResponse) -> None:
    """Whether all of a list can be told from half of one, and a list from a page. Raises ListBroken."""
    if "Content-Length" not in response.headers and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
        raise ListBroken("its server does not say how long it is, so that half of it would look like all")
    if response.content_type in _PAGES:
        raise ListBroken(f"its server sends {response.content_type}, which is a page and no list")


def _lacks_most(held: Rules, rules: Rules) -> bool:
    """Whether more than half of what holds would be gone."""
    lost = sum(each.name not in rules.denials for each in held.denied_packages)
    return 2 * max(lost, len(held.denied_packages) - len(rules.denied_packages)) > len(held.denied_packages)


def _redirect(url: str, location: str) -> str:
    found = urljoin(url, location)
    if urlsplit(found).scheme not in ("https", urlsplit(url).scheme) or urlsplit(found).username:
        raise ListBroken("it redirects from https to something else, or to an address with a login")
    return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether no other process of this machine asks for the list while the block runs."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
