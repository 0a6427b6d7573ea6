"""GET /api/openapi.json and GET /api/docs: both say only what the table of routes is, which is no secret."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property

import orjson
from aiohttp import web

from registry.answers import UNSTORED_JSON
from registry.api.description.document import write_description
from registry.api.description.tryout import HEADERS, write_page
from registry.dispatch import Row


class Description:
    """The description of a table of routes; it is written when it is first asked for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    @cached_property
    def document(self) -> bytes:
        return orjson.dumps(write_description(self._rows))

    @cached_property
    def page(self) -> bytes:
        return write_page(orjson.loads(self.document))


DESCRIPTION = web.AppKey("description", Description)


async def get_document(request: web.Request) -> web.Response:
    body = await asyncio.to_thread(lambda: request.app[DESCRIPTION].document)
    return web.Response(body=body, headers=UNSTORED_JSON)


async def get_page(request: web.Request) -> web.Response:
    return web.Response(body=await asyncio.to_thread(lambda: request.app[DESCRIPTION].page), headers=HEADERS)
