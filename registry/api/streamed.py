"""Lists of which all rows are asked for: they are read and written some at a time, however many there are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from registry.answers import UNSTORED_JSON
from registry.http.transfer import send_chunks
from registry.parts import SETTINGS

PIECE = 500
"""Rows that are in memory at a time."""

Load = Callable[[Sequence[int]], Awaitable[list[dict[str, Any]]]]
"""Reads the rows of some ids, in their order, as JSON."""


async def answer_all(
    request: web.Request, ids: Sequence[int], load: Load, about: Mapping[str, Any] | None = None
) -> web.StreamResponse:
    """Answer with the rows of all `ids`, whose number is told before."""
    response = web.StreamResponse(headers=UNSTORED_JSON)
    if request.method == "HEAD":
        return response
    await send_chunks(request, response, _write(ids, load, about or {}), request.app[SETTINGS].stall_seconds)
    return response


async def _write(ids: Sequence[int], load: Load, about: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
    count = len(ids)
    # conda-store's command line divides by the size
    begin = orjson.dumps({"status": "ok", **about, "page": 1, "size": max(count, 1), "count": count})
    yield begin.removesuffix(b"}") + b',"data":['
    separator = b""
    for start in range(0, count, PIECE):
        rows = orjson.dumps(await load(ids[start : start + PIECE]))[1:-1]
        if rows:
            yield separator + rows
            separator = b","
    yield b"]}"
