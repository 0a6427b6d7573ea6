"""Which addresses others may send us to: one guard for every client.

A channel chooses where its packages are, a registry chooses the hosts of its redirects and its token server, and the
owner of a name chooses its addresses, which may differ at every look-up. So a name is looked up once per connection,
the result is checked, and the connection goes to exactly that address.

    aiohttp     builder.network.connector: downloads, mirrors, webhooks
    requests    builder.remote.guarded_adapter: base images, pushes
    rattler     builder.network.guarding_proxy: repodata

It is here, and not in `registry`, because the builder makes most of the connections that others direct.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA's registries of special-purpose addresses, plus multicast and reserved ones; Python's own `is_global` has changed
# between versions
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "2001::/23", "2001:db8::/32", "3fff::/20",
        ),
    )
)  # fmt: skip

_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_PORTS = {"http": 80, "https": 443, "oci": 443}
USUAL_PORTS = (80, 443)

LookUp = Callable[[str, int], list[str]]
"""Looks up the addresses of a host, for a port. It blocks, and raises OSError."""


class InternalAddress(Exception):
    """A host whose address is not public."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host} has an internal address")
        self.host = host if port in USUAL_PORTS else f"{host}:{port}"


def is_public(text: str) -> bool:
    """Whether an address (with or without a zone) is public. Returns False for any other text."""
    try:
        return _is_public(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = _unwrap(address)
        if inner is not None:
            return _is_public(inner)
        if address not in _UNICAST:
            return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def _unwrap(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address to which packets for an IPv6 one go: mapped, 6to4 or translated (RFC 4291, 3056,
    6052)."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def split_endpoint(url: str) -> str:
    """Return `host:port` of an http, https or oci address; empty for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return f"{_normalize(parts.hostname)}:{port}" if parts.hostname and parts.scheme in _PORTS else ""


def look_up(host: str, port: int) -> list[str]:
    """Look up a host's addresses as the system does."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(f"{host} is not a host name") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _normalize(host: str) -> str:
    return host.lower().rstrip(".")


class AddressGuard:
    """Admits hosts at public addresses, and the `internal` ones at any: `host:port`, or `host` for HTTP and HTTPS."""

    def __init__(self, internal: Collection[str], look_up: LookUp = look_up) -> None:
        self._internal = set(internal)
        self._look_up = look_up

    def admit(self, internal: Collection[str]) -> None:
        """Admit these internal hosts too, from now on."""
        self._internal.update(internal)

    def check(self, host: str, port: int, addresses: Collection[str]) -> None:
        """Raises InternalAddress if one of a host's addresses is not admitted."""
        host = _normalize(host)
        if f"{host}:{port}" in self._internal or (port in USUAL_PORTS and host in self._internal):
            return
        if not all(map(is_public, addresses)):
            raise InternalAddress(host, port)

    def check_host(self, host: str, port: int) -> None:
        """Check a host that is written as an address, which no resolver gets to see."""
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return
        self.check(host, port, [host])

    def look_up(self, host: str, port: int) -> list[str]:
        """Look up a host once, and return the addresses to connect to. Blocks; raises InternalAddress, OSError."""
        found = self._look_up(host, port)
        self.check(host, port, found)
        return found

    def check_known(self, host: str, port: int) -> None:
        """Check a host as far as it can be looked up here, before a proxy looks it up and connects. Blocks."""
        try:
            self.look_up(host, port)
        except OSError:
            return
