"""Answers that a hostile or broken server gives to who asks it for a small JSON document."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

poured = 0
"""Bytes that `endless` has sent."""


async def endless(request: web.Request) -> web.StreamResponse:
    global poured  # noqa: PLW0603 the client hangs up, so nothing can be returned
    poured = 0
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * (1 << 16))
        poured += 1 << 16


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("nobody waits for it")


async def dripping(request: web.Request) -> web.StreamResponse:
    """Never silent for long."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def hanging_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def broken_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    return await hanging_up(request)


def saying(body: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Content-Type": "application/json", **headers})

    return answer


ENDLESS: Mapping[str, Answer] = {"silent": silent, "dripping": dripping}
"""They end when who asks has waited long enough."""

BROKEN: Mapping[str, Answer] = {
    "endless": endless,
    "hanging up": hanging_up,
    "broken off": broken_off,
    "nothing": saying(b""),
    "no content": saying(b"", 204),
    "an error": saying(b"{}", 500),
    "a page": saying(b"<html>"),
    "a list": saying(b"[]"),
    "null": saying(b"null"),
    "a number without an end": saying(b'{"a":' + b"1" * 900_000 + b"}"),
    "deep": saying(b'{"a":' * 100_000),
    "wide": saying(b'{"a":[' + b"[]," * 200_000 + b"[]]}"),
    "a key twice": saying(b'{"sub":"1","sub":"2"}'),
    "half a surrogate pair": saying(b'{"sub":"\\ud800"}'),
    "not UTF-8": saying(b'{"sub":"\xff"}'),
    "packed": saying(gzip.compress(b" " * (64 << 20)), 200, **{"Content-Encoding": "gzip"}),
    "a header of a megabyte": saying(b"{}", 200, **{"X-More": "x" * (1 << 20)}),
    "too large by one": saying(json.dumps({"a": "x" * ((1 << 20) - 8)}).encode()),
}
