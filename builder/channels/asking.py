"""Requests to channels and indexes: guarded, redirects checked, each host with its own credentials alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp

from builder.channels.channel import Credentials
from builder.channels.logins import Logins
from builder.locks.lock import LockedPackage
from builder.network.addresses import AddressGuard
from builder.network.organisation import are_of_one
from builder.network.routes import Routes

_REDIRECTS = 10


class Origins(Protocol):
    """`ChannelPolicy` of channels, `IndexPolicy` of indexes."""

    def address_of(self, channel: str, /) -> str: ...

    def check_package(self, package: LockedPackage, /) -> None: ...

    def internal_of(self, channel: str, /) -> frozenset[str]: ...


class Asking:
    """Sends GET requests over at most `most` connections for those of each set of internal hosts.

    Credentials go only to their own host, and only for what a channel of the same organisation refers to.
    """

    def __init__(self, credentials: Credentials, most: int, seconds: float) -> None:
        self._credentials = credentials
        self._most = most
        self._seconds = seconds
        self._routes: dict[frozenset[str], Routes] = {}

    async def close(self) -> None:
        for routes in self._routes.values():
            await routes.close()

    @asynccontextmanager
    async def get(
        self, url: str, channel: str, origins: Origins, headers: dict[str, str], logins: Logins
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a GET for what `channel` refers to, follow at most ten redirects, each with its own host's credentials.

        Raises InternalAddress and what aiohttp raises.
        """
        routes = self._choose_routes(origins.internal_of(channel))
        channel = origins.address_of(channel)
        for _ in range(_REDIRECTS + 1):
            asked, authorization = url, dict[str, str]()
            if (credential := logins.find(url) or self._credentials.for_url(url)) and _may_see_login(url, channel):
                asked, authorization = credential.authorize(url)
            async with routes.get(asked, {**headers, **authorization}) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    yield response
                    return
                target = urljoin(url, response.headers.get("Location", ""))
            _check_redirect(url, target)
            url = target
        raise aiohttp.ClientError(f"more than {_REDIRECTS} redirects")

    def _choose_routes(self, internal: frozenset[str]) -> Routes:
        """Return sessions for these internal hosts: shared ones would reuse another channel's connections."""
        if internal not in self._routes:
            self._routes[internal] = Routes(AddressGuard(internal), self._most, self._seconds)
        return self._routes[internal]


def _check_redirect(url: str, target: str) -> None:
    """Raises ClientError for a redirect to another scheme, with a user, or from https to http."""
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https") or urlsplit(target).username is not None:
        raise aiohttp.ClientError(f"it redirects to {scheme}:, which is not followed")
    if scheme == "http" and url.startswith("https:"):
        raise aiohttp.ClientError("it redirects from https to http, which is not followed")


def _may_see_login(url: str, channel: str) -> bool:
    """Whether `channel` may use credentials for `url`: otherwise one channel could read another's packages."""
    return are_of_one(urlsplit(url).hostname or "", urlsplit(channel).hostname or "")
