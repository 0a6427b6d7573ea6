"""Which web pages may change something in somebody's name: those of this server (OWASP, "Cross-Site Request Forgery").

A browser sends a password that it remembers with every request, also with one that another site's page has made. It
says of each whose page that was, and what is no browser says nothing of it.
"""

from __future__ import annotations

from aiohttp import web

from registry.errors import Denied
from registry.parts import CORS, PROXIES

OWN_SITE = frozenset({"same-origin", "none"})
"""A page of this very origin, or a person at the address bar. A page of a neighbour (`same-site`) is another's."""


def check_site(request: web.Request) -> None:
    """Raises Denied for what a page of another origin has sent, or one of which that cannot be told.

    Pages that the settings trust with the REST API count as this server's there.
    """
    if request.app[CORS].trusts(request):
        return
    origins, sites = request.headers.getall("Origin", ()), request.headers.getall("Sec-Fetch-Site", ())
    base = request.app[PROXIES].base_url(request)
    if any(origin != base for origin in origins) or not OWN_SITE.issuperset(sites):
        raise Denied("pages of other sites may change nothing here")


def check_wish(request: web.Request) -> None:
    """Raises Denied for what a page of another site may have had a browser ask for in somebody's name.

    A browser adds cookies, passwords that it remembers and its user's proxy to whatever a page leads to. It adds no
    token.
    """
    shows_token = any(each[:7].lower() == "bearer " for each in request.headers.getall("Authorization", ()))
    if not shows_token and not OWN_SITE.issuperset(request.headers.getall("Sec-Fetch-Site", ())):
        raise Denied("a page of another site led here, and may have nothing built; open this address yourself")


def is_own_visit(request: web.Request) -> bool:
    """Whether a page of this server, no page, or a person who goes to an address of it has sent a request."""
    if request.app[CORS].trusts(request):
        return True
    if OWN_SITE.issuperset(request.headers.getall("Sec-Fetch-Site", ())):
        return True
    goes = request.headers.getall("Sec-Fetch-Mode", ()), request.headers.getall("Sec-Fetch-Dest", ())
    return request.method in ("GET", "HEAD") and goes == (["navigate"], ["document"])


def is_program(request: web.Request) -> bool:
    """Whether no browser has sent the request: it would say which page that is from, or that it is from none.

    Over http to another machine it does not always; there no cookie is safe from others, whatever its name.
    """
    return not any(name in request.headers for name in ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"))
