"""Addresses and networks as settings, sockets and proxies write them."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BRACKETED = re.compile(r"\[([^\]]+)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"([^:]+):[0-9]{1,5}")


def network(text: str) -> Network:
    """Read an address or a network in CIDR notation; raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is neither an address nor a network such as 10.0.0.0/8") from None
        raise ValueError(f"{text!r} has bits beyond its prefix; its network is {meant}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, an address or a name; of names only localhost counts."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@lru_cache(maxsize=4096)
def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether one of the networks has the address; False if it is not an address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in each for each in networks)


def plain_address(address: str) -> str:
    """An IPv4 address in its own form, where a socket for both versions shows it as IPv6."""
    return address.removeprefix("::ffff:") if address.startswith("::ffff:") and "." in address else address


def node_address(text: str) -> str | None:
    """The address that a proxy names, with or without a port (RFC 7239, section 6); None for anything else."""
    if found := _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text):
        text = found[1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # a zone may be any text
        return None if address.scope_id else str(address.ipv4_mapped or address)
    return str(address)


@lru_cache(maxsize=4096)
def client_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64, in which a host can use any address."""
    plain = plain_address(address).partition("%")[0]
    if ":" not in plain:
        return plain
    return str(ipaddress.IPv6Network((plain, 64), strict=False))
