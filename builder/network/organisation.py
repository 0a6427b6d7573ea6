"""Whose a host is, by the public suffix list (https://publicsuffix.org): the name that somebody registered.

The last two labels would not do: everybody can have a name under `co.uk` or `github.io`. The list comes with its
package and is not fetched.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache

from publicsuffixlist import PublicSuffixList


def find_organisation(host: str) -> str:
    """The registered name that `host` is or is below; the host itself where nobody registered one, or an address."""
    host = host.lower().rstrip(".")
    if _is_address(host):
        return host
    return _load_suffixes().privatesuffix(host) or host


def are_of_one(host: str, other: str) -> bool:
    """Whether both hosts are of one organisation, so that a login for one may be told to the other."""
    return find_organisation(host) == find_organisation(other)


def _is_address(host: str) -> bool:
    """Also one in a form that only resolvers understand, such as 127.1: no name ends in a number."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]) is not None
    return True


@cache
def _load_suffixes() -> PublicSuffixList:
    return PublicSuffixList()
