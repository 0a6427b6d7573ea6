"""How downloads go out: directly, to addresses that the guard has checked, or through the environment's proxy."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from builder.network.addresses import AddressGuard
from builder.network.connector import make_connector
from builder.network.look_ups import LookUps
from builder.network.outer_proxy import find_outer_proxy

READ_BUFFER = 1 << 20
CONNECT_SECONDS = 30.0


class Routes:
    """Sends requests over at most `limit` connections directly and as many by proxy; each may be silent for
    `seconds`. `trust` has the certificate authorities, if not the usual ones."""

    def __init__(self, guard: AddressGuard, limit: int, seconds: float, trust: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._ssl = trust or True
        self._look_ups: LookUps[None] = LookUps()
        self._direct = _open_session(make_connector(guard, limit=limit), seconds)
        self._proxied = _open_session(aiohttp.TCPConnector(limit=limit), seconds)

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a GET request; see `send`."""
        async with self.send("GET", url, headers) as response:
            yield response

    @asynccontextmanager
    async def send(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request. Follows no redirect. Raises InternalAddress, and what aiohttp raises.

        Behind a proxy the host is checked as far as it can be looked up here; the proxy decides what it connects to.
        """
        address = URL(url, encoded=True)
        host, port = address.host or "", address.port or 0
        if (proxy := find_outer_proxy(url)) is None:
            self._guard.check_host(host, port)
            async with self._direct.request(
                method, address, headers=headers, data=form, allow_redirects=False, ssl=self._ssl
            ) as response:
                yield response
            return
        await self._look_ups.do((host, port), lambda: self._guard.check_known(host, port))
        async with self._proxied.request(
            method,
            address,
            headers=headers,
            data=form,
            allow_redirects=False,
            ssl=self._ssl,
            proxy=proxy[0],
            proxy_auth=proxy[1],
        ) as response:
            yield response

    async def close(self) -> None:
        await self._direct.close()
        await self._proxied.close()


def _open_session(connector: aiohttp.TCPConnector, seconds: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        auto_decompress=False,
        read_bufsize=READ_BUFFER,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "condery", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_SECONDS, seconds), sock_read=seconds),
        connector=connector,
    )
