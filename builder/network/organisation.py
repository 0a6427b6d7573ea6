"""Which organisation a host belongs to: the registered name, by the public suffix list (https://publicsuffix.org).

The last two labels are not enough: anybody can have a name under `co.uk` or `github.io`. The list comes with its Python
package and is not downloaded.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache

from publicsuffixlist import PublicSuffixList


def find_organisation(host: str) -> str:
    """Return the registered name that `host` is or is below.

    For an address or an unregistered name, return the host.
    """
    host = host.lower().rstrip(".")
    if _is_address(host):
        return host
    return _load_suffixes().privatesuffix(host) or host


def are_of_one(host: str, other: str) -> bool:
    """Whether both hosts belong to one organisation, so that the other may see a login for one."""
    return find_organisation(host) == find_organisation(other)


def _is_address(host: str) -> bool:
    """Whether this is an address, also in a form that only resolvers understand, such as 127.1: no name ends in a
    number."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]) is not None
    return True


@cache
def _load_suffixes() -> PublicSuffixList:
    return PublicSuffixList()
