"""Who sent a request and to which address, behind proxies that pass this on.

A proxy appends what it knows to what its client sent, so these headers are read from the end. What a trusted peer says
is believed; what it passes on from somebody else only if that one is trusted, too. Anybody may have written what is
further left. Only one kind of header is ever read, since a proxy passes on the other kind as its client sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from aiohttp import web
from multidict import MultiMapping

from registry.peers.networks import is_in, network, node_address, plain_address
from storage.text import SPACES

HeaderKind = Literal["x-forwarded", "forwarded"]
"""X-Forwarded-For, -Proto and -Host, or the single header of RFC 7239."""

LONGEST_CHAIN = 32
"""The most proxies to follow."""

REMEMBERED = 512

_Values = tuple[str, ...]
"""The values of a header, one per line."""

_NAMES: Mapping[HeaderKind, _Values] = {
    "x-forwarded": ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"),
    "forwarded": ("Forwarded",),
}

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

# RFC 7239, section 4, with the white space that RFC 9110 allows in lists
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the word of the grammar
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_PAIR = re.compile(rf"[ \t]*({_TOKEN})=({_TOKEN}|{_QUOTED})[ \t]*")
_EMPTY = re.compile(r"[ \t]*,[ \t]*|[ \t]+$")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as its client made it. `host` may have a port, and is empty if unknown."""

    client: str
    scheme: str
    host: str


@dataclass(frozen=True, slots=True)
class _Hop:
    """What a proxy says about a request that it got; empty if it says nothing."""

    client: str
    scheme: str = ""
    host: str = ""


class Proxies:
    """The proxies to believe about where a request comes from. `public_url` is how clients reach us, if that is set."""

    def __init__(
        self, trusted: Sequence[str] = (), headers: HeaderKind = "x-forwarded", public_url: str | None = None
    ) -> None:
        self._trusted = tuple(map(network, trusted))
        self._headers = headers
        self._public_url = public_url
        # proxies send the same headers with most requests, and parsing them takes longer than many an answer
        self._told = lru_cache(maxsize=REMEMBERED)(self._read_lines)

    def client(self, request: web.BaseRequest) -> str:
        """The sender's address without a port; empty if the request came over no network."""
        peer = plain_address(request.remote or "")
        return self.seen(request).client if self._trusted and self._trusts(peer) else peer

    def is_from_proxy(self, request: web.BaseRequest) -> bool:
        """Whether a trusted proxy is connected to this server, and has sent the request."""
        return self._trusts(plain_address(request.remote or ""))

    def seen(self, request: web.BaseRequest) -> Seen:
        return self.read(Seen(plain_address(request.remote or ""), request.scheme, request.host), request.headers)

    def base_url(self, request: web.BaseRequest) -> str | None:
        """The `scheme://host[:port]` at which the client reached this server; None if nobody named a valid host."""
        if self._public_url is not None:
            return self._public_url
        seen = self.seen(request)
        return f"{seen.scheme}://{seen.host}" if seen.host else None

    def read(self, direct: Seen, headers: MultiMapping[str]) -> Seen:
        """Apply `headers` to a request that came as `direct` says."""
        if not self._trusts(direct.client):
            return replace(direct, host=_host(direct.host))
        return self._told(direct, tuple(tuple(headers.getall(name, ())) for name in _NAMES[self._headers]))

    def _read_lines(self, direct: Seen, lines: tuple[_Values, ...]) -> Seen:
        client, scheme, host = direct.client, direct.scheme, _host(direct.host)
        hops = _read_forwarded(*lines) if self._headers == "forwarded" else _x_forwarded(*lines)
        for _, hop in zip(range(LONGEST_CHAIN), hops, strict=False):
            scheme = hop.scheme.lower() if hop.scheme.lower() in ("http", "https") else scheme
            host = _host(hop.host) or host
            address = node_address(hop.client)
            if address is None:
                break
            client = address
            if not self._trusts(client):
                break
        return Seen(client, scheme, host)

    def _trusts(self, address: str) -> bool:
        return bool(self._trusted) and is_in(address, self._trusted)


def _host(text: str) -> str:
    """`text` if it is a host, with or without a port; otherwise empty."""
    return text if _HOST.fullmatch(text) else ""


def _x_forwarded(clients: _Values, schemes: _Values, hosts: _Values) -> Iterator[_Hop]:
    """The hops, the last first. Scheme and host are the trusted peer's alone: other proxies may not have sent any."""
    *others, last = _list(clients)
    yield _Hop(last, _list(schemes)[-1], _list(hosts)[-1])
    for client in reversed(others):
        yield _Hop(client)


def _list(lines: _Values) -> list[str]:
    """The elements of a header; at least one."""
    return [part.strip(SPACES) for part in ",".join(lines).split(",")]


def _read_forwarded(lines: _Values) -> Iterator[_Hop]:
    """The hops, the last first; a line that violates RFC 7239 ends them."""
    for line in reversed(lines):
        elements = _elements(line)
        if elements is None:
            return
        for element in reversed(elements):
            yield _Hop(element.get("for", ""), element.get("proto", ""), element.get("host", ""))


def _elements(line: str) -> list[dict[str, str]] | None:
    """The elements of a whole line, or None. A quote that a client leaves open must not swallow what follows it."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(line):
        if empty := _EMPTY.match(line, position):
            # lists may have empty elements (RFC 9110, section 5.6.1)
            position = empty.end()
            continue
        pair = _PAIR.match(line, position)
        if pair is None or pair[1].lower() in elements[-1]:
            return None
        elements[-1][pair[1].lower()] = _unquote(pair[2])
        position = pair.end() + 1
        separator = line[pair.end() : position]
        if separator == ",":
            elements.append({})
        elif separator not in (";", ""):
            return None
    return [element for element in elements if element]


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
