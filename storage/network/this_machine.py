"""Which hosts of URLs are this machine."""

from __future__ import annotations

import ipaddress
import socket


def is_this_machine(host: str) -> bool:
    """Whether a host is localhost or a loopback address, however it is written. Nothing is looked up."""
    host = host.lower().removesuffix(".").partition("%")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            # 127.1 and 0x7f000001, which are connected to as addresses, too
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    # the unspecified address leads here as well
    return any(each.is_loopback or each.is_unspecified for each in (address, inner) if each is not None)
