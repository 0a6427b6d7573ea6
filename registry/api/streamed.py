"""Lists of which all rows are asked for: they are read and written some at a time, however many there are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
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


async def answer_all(request: web.Request, ids: Sequence[int], load: Load) -> web.StreamResponse:
    """Answer with the rows of all `ids`."""
    return await answer_pieces(request, len(ids), _write_rows(ids, load))


async def answer_pieces(
    request: web.Request, count: int, pieces: AsyncIterable[bytes], about: Mapping[str, Any] | None = None
) -> web.StreamResponse:
    """Answer with `count` rows, which come in `pieces`: the inside of an array of JSON each, perhaps empty."""
    response = web.StreamResponse(headers=UNSTORED_JSON)
    if request.method == "HEAD":
        return response
    await send_chunks(request, response, _write(count, pieces, about or {}), request.app[SETTINGS].stall_seconds)
    return response


async def _write_rows(ids: Sequence[int], load: Load) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(ids), PIECE):
        yield orjson.dumps(await load(ids[start : start + PIECE]))[1:-1]


async def _write(count: int, pieces: AsyncIterable[bytes], about: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
    # conda-store's command line divides by the size
    begin = orjson.dumps({"status": "ok", **about, "page": 1, "size": max(count, 1), "count": count})
    yield begin.removesuffix(b"}") + b',"data":['
    separator = b""
    async for piece in pieces:
        if piece:
            yield separator + piece
            separator = b","
    yield b"]}"
