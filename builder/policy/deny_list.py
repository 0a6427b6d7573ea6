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
import time
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
from builder.policy.denial import Denial
from builder.policy.rules import DENY_LIST, Rules, read_denial
from storage import strict_json
from storage.disk.files import atomic_write
from storage.errors import JsonInvalid
from storage.text import redact

log = structlog.get_logger(__name__)

LARGEST = 16 << 20
"""Bytes of a list."""
MOST_LINES = 200_000
"""Entries of a list."""
FETCH_SECONDS = 60.0
SILENT_SECONDS = 20.0
MOST_REDIRECTS = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class ListBroken(Exception):
    """Why a list cannot be used, as a sentence without its place."""


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
            content = await self._read(seconds)
            changed = await self._take(content)
        except ListBroken as error:
            self._problem = str(error)
            self.status = "kept, since it cannot be read" if self._rules else "never read: nothing is allowed"
            log.warning("deny list not read", place=redact(self._place), reason=str(error), kept=bool(self._rules))
            return False
        self.status = "ok"
        return changed

    async def _refresh_forever(self, seconds: float, changed: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            if await self.refresh(seconds / 2):
                changed()

    async def _take(self, content: bytes) -> bool:
        """Let it hold from now on. Raises ListBroken."""
        if content == self._content:
            return False
        try:
            rules = await asyncio.to_thread(_make_rules, content, self._alias)
        except ValueError as error:
            raise ListBroken(str(error)) from None
        self._content, self._rules = content, rules
        # another process may have written it
        if not await asyncio.to_thread(self._is_copied, content):
            await asyncio.to_thread(self._write_copy, content)
        log.info("deny list read", place=redact(self._place), entries=len(rules.denied_packages))
        return True

    async def _take_copy(self) -> None:
        """What held before a restart."""
        with contextlib.suppress(ListBroken, OSError):
            await self._take(await asyncio.to_thread(_read_file, self._copy))

    async def _read(self, seconds: float) -> bytes:
        if "://" not in self._place:
            try:
                return await asyncio.to_thread(_read_file, Path(self._place))
            except OSError as error:
                raise ListBroken(error.strerror or "it cannot be read") from None
        with contextlib.ExitStack() as stack:
            lock = self._copy.with_suffix(".lock")
            alone = await asyncio.to_thread(lambda: stack.enter_context(_locked(lock)))
            if not alone or (seconds and await asyncio.to_thread(self._is_young, seconds)):
                with contextlib.suppress(OSError):
                    return await asyncio.to_thread(_read_file, self._copy)
            content = await self._fetch()
            if await asyncio.to_thread(self._is_copied, content):
                await asyncio.to_thread(os.utime, self._copy)
            return content

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
                return await _read_limited(response)
        raise ListBroken("it redirects without end")

    def _is_young(self, seconds: float) -> bool:
        try:
            return time.time() - self._copy.stat().st_mtime < seconds
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


def parse_deny_list(content: bytes, alias: str) -> tuple[Denial, ...]:
    """The entries of a list: a line each, or a JSON array. Raises ValueError, which says where it is wrong.

    A list without a line is broken, since that is what a failed write leaves; `[]` or a comment denies nothing.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not text.strip():
        raise ValueError("it is empty; a list that denies nothing is a comment, or []")
    entries = list(_parse_array(content) if text.lstrip().startswith("[") else _parse_lines(text))
    if len(entries) > MOST_LINES:
        raise ValueError(f"it has {len(entries)} entries; at most {MOST_LINES} are allowed")
    denials = []
    for where, entry in entries:
        try:
            denials.append(read_denial(entry, alias))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return tuple(denials)


def _parse_array(content: bytes) -> Iterator[tuple[str, object]]:
    try:
        document = strict_json.parse(content)
    except JsonInvalid as error:
        raise ValueError(str(error)) from None
    for number, entry in enumerate(document, 1):
        yield f"entry {number}", entry


def _parse_lines(text: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not entry.startswith("{"):
            yield f"line {number}", entry
            continue
        try:
            yield f"line {number}", strict_json.parse(entry.encode())
        except JsonInvalid as error:
            raise ValueError(f"line {number}: {error}") from None


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
