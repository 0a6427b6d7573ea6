"""GET channel/ and package/: the channels that the settings name, and searches for packages in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from auth.permission import Permission
from builder.errors import ChannelUnavailable
from builder.search.package import FoundPackage, SearchedChannel
from builder.search.question import COLUMNS, Column, Question
from builder.search.search import Found, ListedChannel, PackageSearch
from registry.access.rights import check_anywhere
from registry.api.documents import answer_data, answer_list, read_paging, read_sorting
from registry.api.queries import check_parameters, read_word, read_words
from registry.api.streamed import PIECE, answer_pieces
from registry.errors import PageInvalid, RouteUnknown
from registry.parts import PARTS
from storage.text import redact

NEEDED = (Permission.ENVIRONMENT_READ, Permission.ENVIRONMENT_CREATE, Permission.ENVIRONMENT_SOLVE)
"""Any of these, on anything: whoever may use no channel does not learn which there are."""
PARAMETERS = ("search", "exact", "build", "channel", "distinct_on", "sort_by", "order", "page", "size")
_SEVERAL = {"channel": 20, "distinct_on": 20}
"""How often a parameter may be there that may be there several times."""
_LONGEST = 200
"""Characters of what is searched for. Names have at most 240, with version and build."""
_WORDS = {"": False, "false": False, "true": True}


async def list_channels(request: web.Request) -> web.StreamResponse:
    """Each with the time at which its list of packages was last read, null before its first search."""
    packages = _find_search(request)
    rows = [_write_channel(each) for each in await packages.list_channels()]
    return answer_list(request, rows, ("id", "name", "last_update"))


async def list_packages(request: web.Request) -> web.StreamResponse:
    """Of what cannot be searched, or only as it was, the answer's `message` says why."""
    packages = _find_search(request)
    check_parameters(request, PARAMETERS, _SEVERAL, _LONGEST)
    question, paging = _read_question(request), read_paging(request)
    async with packages.find(question, _read_channels(request, packages)) as found:
        channels = [_write_channel(each) for each in found.channels]
        about = {"message": _tell_problems(found)} if found.problems else {}
        if paging is None:
            # all of them may be hundreds of megabytes, of which few are in memory at a time
            pieces = found.read_all(PIECE, lambda some: _write_piece(some, channels))
            return await answer_pieces(request, found.count, pieces, about)
        page, size = paging
        rows = await found.read_page((page - 1) * size, size, lambda each: _write(each, channels))
        return answer_data(rows, **about, page=page, size=size, count=found.count)


def _find_search(request: web.Request) -> PackageSearch:
    """Raises Denied, Unauthorized, RouteUnknown."""
    check_anywhere(request, NEEDED, "search for packages")
    packages = request.app[PARTS].packages
    if packages is None:
        raise RouteUnknown(request.rel_url.raw_path)
    return packages


def _read_question(request: web.Request) -> Question:
    """Raises PageInvalid."""
    search, build = read_word(request, "search") or "", read_word(request, "build") or ""
    word = read_word(request, "exact") or ""
    exact = _WORDS.get(word)
    if exact is None:
        raise PageInvalid("exact", word, "expected true or false")
    by, backwards = read_sorting(request, COLUMNS)
    distinct = [_read_column("distinct_on", each) for each in read_words(request, "distinct_on")]
    sort_by: Column | None = _read_column("sort_by", by) if by else None
    return Question(search, exact, build, frozenset(distinct), sort_by or "", backwards)


def _read_column(parameter: str, text: str) -> Column:
    for column in COLUMNS:
        if text == column:
            return column
    raise PageInvalid(parameter, text, f"expected one of {', '.join(COLUMNS)}")


def _read_channels(request: web.Request, packages: PackageSearch) -> Sequence[SearchedChannel]:
    """The channels that are named in the query, by name or address. Raises PageInvalid."""
    chosen = {}
    for text in read_words(request, "channel"):
        try:
            channel = packages.find_channel(text)
        except ChannelUnavailable:
            channel = None
        if channel is None:
            names = ", ".join(each.name for each in packages.channels)
            raise PageInvalid("channel", redact(text), f"expected one of {names}")
        chosen[channel.url] = channel
    return tuple(chosen.values())


def _tell_problems(found: Found) -> str:
    return "; ".join(f"{channel}: {problem}" for channel, problem in found.problems.items())


def _write_channel(listed: ListedChannel) -> dict[str, Any]:
    moment = listed.last_update
    update = None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    return {"id": listed.channel.id, "name": listed.channel.name, "last_update": update}


def _write(package: FoundPackage, channels: list[dict[str, Any]]) -> dict[str, Any]:
    return package.to_json(channels)


def _write_piece(packages: list[FoundPackage], channels: list[dict[str, Any]]) -> bytes:
    return orjson.dumps([_write(each, channels) for each in packages])[1:-1]
