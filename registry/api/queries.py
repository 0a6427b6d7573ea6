"""Queries of the REST API: which parameters there are, and the words in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from aiohttp import web

from registry.errors import PageInvalid

LONGEST = 255


def check_parameters(
    request: web.Request, known: Collection[str], several: Mapping[str, int] | None = None, longest: int = LONGEST
) -> None:
    """Raises PageInvalid for what is not `known`, is there too often, or has more than `longest` characters.

    A parameter is there once, or as often as `several` says. Values of what is not known are not told: conda-store's
    clients also send a token, where logs and histories keep it.
    """
    several = several or {}
    for name in request.query:
        values = request.query.getall(name)
        if name not in known:
            raise PageInvalid(name, "...", f"there is no such parameter; there are {', '.join(known)}")
        if len(values) > several.get(name, 1):
            most = f"expected at most {several[name]} of this parameter" if name in several else ""
            raise PageInvalid(name, values[-1], most or "this parameter is there twice")
        for value in values:
            if len(value) > longest or not value.isprintable():
                raise PageInvalid(name, value, f"expected at most {longest} printable characters")


def read_words(request: web.Request, name: str) -> Sequence[str]:
    """What the parameter has, without the slash that conda-store's command line glues to the end of a query."""
    *before, last = request.query.getall(name, [""])
    return [each for each in (*before, last.removesuffix("/")) if each]


def read_word(request: web.Request, name: str) -> str | None:
    return next(iter(read_words(request, name)), None)
