"""The HTTP side by itself: routes, and the keys under which handlers find what they work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from aiohttp import web
from aiohttp.typedefs import Handler

from registry.errors import MethodUnsupported, RouteUnknown
from registry.files import get_file
from registry.forwarded import Proxies
from registry.health import healthz, readyz
from registry.http_settings import HttpSettings
from registry.intake import leave_to_reader
from registry.memory import Memory
from registry.observer import add_common_headers, observe
from registry.parts import MEMORY, PARTS, PROXIES, SETTINGS, STOPPING, Parts
from registry.request_log import RequestLog
from registry.v2.dispatch import dispatch


def _reading(handler: Handler) -> Handler:
    """The handler for GET and HEAD alone."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise MethodUnsupported(request.method, "GET, HEAD")
        return await handler(request)

    return answer


async def _nothing(request: web.Request) -> web.StreamResponse:
    raise RouteUnknown(request.path)


ROUTES: Mapping[str, Handler] = {
    "/v2{path:(?s:.*)}": dispatch,
    "/files/{path:(?s:.*)}": _reading(get_file),
    "/healthz": _reading(healthz),
    "/readyz": _reading(readyz),
    "/{path:(?s:.*)}": _nothing,
}
"""Of those that match a path, the one with the longest fixed beginning answers, whatever the method."""


def compose(
    settings: HttpSettings,
    open_parts: Callable[[], AbstractAsyncContextManager[Parts]],
    request_log: RequestLog,
) -> web.Application:
    """The application over the parts that `open_parts` opens when it starts and closes after its last request."""
    app = web.Application()
    app[SETTINGS] = settings
    app[MEMORY] = Memory(settings.manifest_memory, settings.tag_memory_seconds)
    proxies = Proxies(settings.trusted_proxies, settings.proxy_headers, settings.public_url)
    app[PROXIES] = proxies
    app[STOPPING] = asyncio.Event()

    async def parts(app: web.Application) -> AsyncIterator[None]:
        async with open_parts() as opened:
            app[PARTS] = opened
            yield
        request_log.flush()

    app.cleanup_ctx.append(parts)
    app.on_response_prepare.append(add_common_headers)
    observed = observe(request_log, proxies)
    for path, handler in ROUTES.items():
        app.router.add_route("*", path, observed(handler), expect_handler=leave_to_reader)
    return app
