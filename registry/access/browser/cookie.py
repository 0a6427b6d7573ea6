"""What a browser keeps: for this host alone, over https alone, hidden from scripts, and not sent with requests of other
sites' pages, except when a person follows a link."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from registry.parts import PROXIES
from storage.text import SPACES

LONGEST = 128
"""Characters; ours are shorter."""


@dataclass(frozen=True)
class Cookie:
    """A cookie of ours, over https or, where there is none, over http.

    One with a `plain` name can be set by sites of neighbours, so nothing that a browser sends may count on it.
    """

    purpose: str
    plain: str = ""

    def name(self, request: web.Request) -> str:
        if self.plain:
            return self.plain
        return f"__Host-condery-{self.purpose}" if _is_secure(request) else f"condery-{self.purpose}"

    def may_be_in(self, request: web.Request) -> bool:
        """Whether it is worth while to read it."""
        ending = self.plain or f"condery-{self.purpose}"
        return any(ending in line for line in request.headers.getall("Cookie", ()))

    def read(self, request: web.Request) -> str | None:
        """Its value; None if there is none, it cannot be ours, or there are several, of which another page may have
        set one."""
        found, mine = [], self.name(request)
        for line in request.headers.getall("Cookie", ()):
            # a browser lets another site of the domain set a name that begins with Unicode's white space
            pairs = (each.strip(SPACES).partition("=") for each in line.split(";"))
            found += [value for name, _, value in pairs if name == mine]
        if len(found) != 1 or len(found[0]) > LONGEST or not found[0].isascii():
            return None
        return found[0]

    def write(self, request: web.Request, response: web.StreamResponse, value: str, seconds: float) -> None:
        """Set it, or with 0 seconds delete it."""
        secure = "; Secure" if _is_secure(request) else ""
        written = f"{self.name(request)}={value}; Path=/; Max-Age={seconds:.0f}; HttpOnly; SameSite=Lax{secure}"
        response.headers.add("Set-Cookie", written)


def _is_secure(request: web.Request) -> bool:
    """Whether clients reach this server by https."""
    return (request.app[PROXIES].base_url(request) or "").startswith("https://")
