"""Answers of the REST API, and bodies of requests to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from registry.answers import UNSTORED_JSON
from registry.api.queries import read_word
from registry.errors import BodyInvalid, PageInvalid
from registry.http.intake import read_limited
from registry.parts import SETTINGS
from storage import strict_json
from storage.errors import JsonInvalid, quote

LARGEST = 256 << 10
"""Bytes of a body."""
MOST_ON_PAGE = 100

_NUMBER = re.compile(r"[0-9]{1,9}")


def answer_data(data: object, **more: object) -> web.Response:
    return web.Response(body=orjson.dumps({"status": "ok", **more, "data": data}), headers=UNSTORED_JSON)


async def answer_aside(write: Callable[[], object]) -> web.Response:
    """Answer with data that a thread writes, since it may be of very many packages."""
    return await asyncio.to_thread(lambda: answer_data(write()))


def answer_message(message: str) -> web.Response:
    return web.Response(body=orjson.dumps({"status": "ok", "message": message}), headers=UNSTORED_JSON)


def answer_list(request: web.Request, rows: Sequence[Mapping[str, Any]], sorts: Collection[str]) -> web.Response:
    """All rows, or the page that is asked for, sorted by one of `sorts` if that is asked for. Raises PageInvalid."""
    rows = _sort(request, rows, sorts)
    paging = read_paging(request)
    if paging is None:
        # conda-store's command line divides by `size`
        return answer_data(rows, page=1, size=max(len(rows), 1), count=len(rows))
    page, size = paging
    return answer_data(rows[(page - 1) * size : page * size], page=page, size=size, count=len(rows))


def read_paging(request: web.Request) -> tuple[int, int] | None:
    """The number of the page, from 1, and the rows on each; None if all rows are asked for. Raises PageInvalid.

    conda-store's command line asks again and again until it has `count` rows.
    """
    if "page" not in request.query and "size" not in request.query:
        return None
    return _read_number(request, "page", 1), min(_read_number(request, "size", 10), MOST_ON_PAGE)


def read_sorting(request: web.Request, sorts: Collection[str]) -> tuple[str, bool]:
    """What is sorted by, empty if that is not asked for, and whether backwards. Raises PageInvalid."""
    order, by = read_word(request, "order") or "", read_word(request, "sort_by") or ""
    if order not in ("", "asc", "desc"):
        raise PageInvalid("order", order, "expected asc or desc")
    if by not in ("", *sorts):
        raise PageInvalid("sort_by", by, f"expected one of {', '.join(sorts)}")
    return by, order == "desc"


def _sort(
    request: web.Request, rows: Sequence[Mapping[str, Any]], sorts: Collection[str]
) -> Sequence[Mapping[str, Any]]:
    by, backwards = read_sorting(request, sorts)
    if by:
        rows = sorted(rows, key=lambda row: (row[by] is not None, row[by]))
    return rows[::-1] if backwards else rows


def _read_number(request: web.Request, name: str, default: int) -> int:
    text = read_word(request, name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or int(text) < 1:
        raise PageInvalid(name, text, "expected a whole number from 1")
    return int(text)


async def read_object(request: web.Request, known: Collection[str] | None, most: int = LARGEST) -> Mapping[str, Any]:
    """The JSON object in the body of at most `most` bytes, whose fields are all `known`; None leaves that to others.

    Raises BodyInvalid, BodyTooLarge, BodyBroken.
    """
    if request.content_type != "application/json":
        # what a form on a page of another site can send is none of these
        raise BodyInvalid("Content-Type", f"{quote(request.content_type)}: expected application/json")
    body = await read_limited(request, most, request.app[SETTINGS].stall_seconds)
    try:
        if len(body) <= LARGEST:
            document = strict_json.parse(body)
        else:
            document = await asyncio.to_thread(strict_json.parse, body)
    except JsonInvalid as error:
        raise BodyInvalid("", str(error)) from None
    if not isinstance(document, dict):
        raise BodyInvalid("", "expected an object")
    for name in document:
        if known is not None and name not in known:
            raise BodyInvalid(quote(name), f"there is no such field; there are {', '.join(known)}")
    return document


def read_text(document: Mapping[str, Any], name: str) -> str | None:
    """A field that is text, or is missing or null. Raises BodyInvalid."""
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise BodyInvalid(name, "expected text")
    return value


def read_flag(document: Mapping[str, Any], name: str) -> bool:
    """A field that is true, or false, missing or null. Raises BodyInvalid."""
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise BodyInvalid(name, "expected true or false")
    return value is True


def read_number(document: Mapping[str, Any], name: str, most: int) -> int | None:
    """A field that is a whole number from 1, or is missing or null. Raises BodyInvalid."""
    value = document.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most):
        raise BodyInvalid(name, f"expected a whole number from 1 to {most}")
    return value


def read_texts(document: Mapping[str, Any], name: str) -> Sequence[str] | None:
    """A field that is a list of texts, or is missing or null. Raises BodyInvalid."""
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BodyInvalid(name, "expected a list of texts")
    return value
