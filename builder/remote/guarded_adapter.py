"""`requests` behind the address guard: it looks a host up once, and connects only to an address that was checked."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3
import urllib3.connection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from builder.network.addresses import AddressGuard
from storage.network.this_machine import is_this_machine

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
POOL = 8


class GuardedAdapter(requests.adapters.HTTPAdapter):
    """Raises InternalAddress. Requests without a time limit, such as oras's for tokens, get one.

    If the environment names a proxy, the proxy connects, but never to this machine. The host is checked beforehand, as
    far as it can be looked up here.
    """

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        super().__init__(pool_maxsize=POOL)
        self.poolmanager.pool_classes_by_scheme = _make_pool_classes(guard)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        url = request.url or ""
        if is_this_machine(urlsplit(url).hostname or ""):
            options["proxies"] = {}
            # a redirect of a proxied request has the proxy's password
            request.headers.pop("Proxy-Authorization", None)
        if requests.utils.select_proxy(url, options.get("proxies")):
            parts = urlsplit(url)
            self._guard.check_known(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        if options.get("timeout") is None:
            options["timeout"] = (CONNECT_SECONDS, READ_SECONDS)
        return super().send(request, *args, **options)


def _make_pool_classes(guard: AddressGuard) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    class Plain(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, guard)

    class Secure(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, guard)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _connect(connection: urllib3.connection.HTTPConnection, guard: AddressGuard) -> socket.socket:
    """Connect to the first of the host's addresses that accepts. The errors are urllib3's own."""
    host = connection.host.strip("[]")
    try:
        addresses = guard.look_up(host, connection.port)
    except OSError as error:
        raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error
    failure: OSError = OSError(f"{host} has no address")
    for address in addresses:
        try:
            return create_connection(
                (address, connection.port),
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError as error:
            failure = error
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"{host} did not accept a connection in time") from failure
    raise NewConnectionError(connection, f"{host} accepts no connection: {failure}") from failure
