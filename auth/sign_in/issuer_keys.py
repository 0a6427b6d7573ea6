"""An issuer's keys: fetched when they are first needed, and kept (OpenID Connect Discovery 1.0).

Anybody can make up a token that names a key nobody knows, or an issuer that is down. So keys are fetched at most once
in a while, by one request for all who wait, and a known key is used without waiting for anything.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from auth.sign_in.errors import FetchFailed, IssuerUnusable
from auth.sign_in.key_set import IssuerKey, KeySet, KeySetInvalid, parse_key_set
from storage import strict_json
from storage.errors import JsonInvalid

FETCH_SECONDS = 10.0
"""For the discovery document and the keys together."""
AGAIN_SECONDS = 60.0
"""An issuer whose keys are known is asked again at most so often."""
RETRY_SECONDS = 5.0
"""Likewise, where none are known because it did not answer."""
FRESH_SECONDS = 3600.0
"""From this age on the keys are fetched again beside their use, so that those taken back are noticed."""
KEEP_SECONDS = 24 * 3600.0
"""For so long they are used while the issuer cannot be reached."""

_ADDRESS = re.compile(r"https?://[!$-\[\]-~]{1,2000}")
"""Without quotes, fragments and backslashes, which programs read differently."""

DISCOVERY = "/.well-known/openid-configuration"

Fetch = Callable[[str], Awaitable[bytes]]
"""Gets the document at a URL, of a bounded size, from an address where it may be. Raises FetchFailed."""

log = structlog.get_logger(__name__)


class Discovery:
    """What an issuer says about itself."""

    def __init__(self, issuer: str, fetch: Fetch) -> None:
        self.issuer = issuer
        self._fetch = fetch

    async def find_address(self, name: str) -> str:
        """The URL that the document has under `name`. Raises FetchFailed."""
        return self.read_address(await self.load(), name)

    async def load(self) -> Mapping[str, Any]:
        """The document. Raises FetchFailed."""
        url = self.issuer.rstrip("/") + DISCOVERY
        body = await self._fetch(url)
        try:
            document = await asyncio.to_thread(strict_json.parse, body)
        except JsonInvalid as error:
            raise FetchFailed(url, f"is no discovery document: {error}") from None
        if not isinstance(document, dict) or document.get("issuer") != self.issuer:
            raise FetchFailed(url, "is the discovery document of another issuer, or none")
        return document

    def read_address(self, document: Mapping[str, Any], name: str) -> str:
        """Raises FetchFailed."""
        address = document.get(name)
        schemes = ("https://",) if self.issuer.startswith("https://") else ("https://", "http://")
        # a browser is sent to one of them, with more behind it
        if not isinstance(address, str) or not address.startswith(schemes) or not _ADDRESS.fullmatch(address):
            raise FetchFailed(self.issuer.rstrip("/") + DISCOVERY, f"has no {name} that is an address with https")
        return address


class IssuerKeys:
    """The keys of the issuer of `discovery`, for all requests of one process."""

    def __init__(self, discovery: Discovery, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._discovery = discovery
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet | None = None
        self._loaded = 0.0
        self._asked: float | None = None
        self._failure = ""
        self._loading: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> IssuerKey | None:
        """The key called `kid`, or if that is empty the only one; None if there is none. Raises IssuerUnusable."""
        age = self._clock() - self._loaded
        keys = self._keys if age < KEEP_SECONDS else None
        if keys is None or keys.find(kid) is None:
            await self._load_if_due(AGAIN_SECONDS if keys is not None else RETRY_SECONDS)
            keys = self._keys if self._clock() - self._loaded < KEEP_SECONDS else None
        elif age >= FRESH_SECONDS and self._is_due(AGAIN_SECONDS):
            self._begin_loading()
        if keys is None:
            raise IssuerUnusable(self._discovery.issuer, self._failure)
        return keys.find(kid)

    async def renew(self) -> None:
        """Fetch the keys again, unless that was done a moment ago. Raises nothing: `find` does if there are none."""
        await self._load_if_due(AGAIN_SECONDS)

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    def _is_due(self, seconds: float) -> bool:
        return self._asked is None or self._clock() - self._asked >= seconds

    async def _load_if_due(self, seconds: float) -> None:
        task = self._loading
        if task is None and self._is_due(seconds):
            task = self._begin_loading()
        if task is not None:
            # others wait for it, too
            await asyncio.shield(task)

    def _begin_loading(self) -> asyncio.Task[None]:
        if self._loading is None:
            self._asked = self._clock()
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(self._note_end)
        return self._loading

    def _note_end(self, _: asyncio.Task[None]) -> None:
        self._loading = None

    async def _load(self) -> None:
        """Raises nothing: those who wait look whether there are keys."""
        issuer = self._discovery.issuer
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                url = await self._discovery.find_address("jwks_uri")
                body = await self._fetch(url)
            try:
                self._keys = await asyncio.to_thread(parse_key_set, body)
            except KeySetInvalid as error:
                raise FetchFailed(url, str(error)) from None
            self._loaded = self._clock()
        except TimeoutError:
            self._failure = f"it did not answer within {FETCH_SECONDS:g} seconds"
        except FetchFailed as error:
            self._failure = str(error)
        else:
            log.info("keys of an issuer fetched", issuer=issuer, keys=len(self._keys.named))
            return
        log.warning("keys of an issuer cannot be fetched", issuer=issuer, reason=self._failure)
