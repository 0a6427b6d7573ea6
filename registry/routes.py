"""The HTTP side by itself: routes, and the keys under which handlers find what they work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from registry.files import get_file
from registry.health import healthz, readyz
from registry.http.budget import UploadBudget
from registry.http.intake import leave_to_reader
from registry.http.memory import Memory
from registry.http.settings import HttpSettings
from registry.logs.request_log import RequestLog
from registry.observer import Observer
from registry.parts import CONNECTIONS, MEMORY, PARTS, PROXIES, SETTINGS, STOPPING, UPLOAD_BUDGET, Parts
from registry.peers.connections import Connections
from registry.peers.cors import Cors
from registry.peers.forwarded import Proxies
from registry.v2.dispatch import dispatch
from registry.welcome import welcome


def compose(
    settings: HttpSettings,
    open_parts: Callable[[], AbstractAsyncContextManager[Parts]],
    request_log: RequestLog,
) -> web.Application:
    """The application over the parts that `open_parts` opens when it starts and closes after its last request."""
    app = web.Application()
    app[SETTINGS] = settings
    app[MEMORY] = Memory(settings.manifest_memory, settings.tag_memory_seconds)
    app[PROXIES] = Proxies(settings.trusted_proxies, settings.proxy_headers, settings.public_url)
    app[CONNECTIONS] = Connections(settings.trusted_proxies)
    app[UPLOAD_BUDGET] = UploadBudget(settings.upload_memory)
    observer = Observer(request_log, app[PROXIES], app[CONNECTIONS], Cors(settings.cors_origins))
    app[STOPPING] = asyncio.Event()

    async def parts(app: web.Application) -> AsyncIterator[None]:
        async with open_parts() as opened:
            app[PARTS] = opened
            yield
        request_log.flush()

    app.cleanup_ctx.append(parts)
    app.on_response_prepare.append(observer.complete)
    app.router.add_route("*", "/v2{path:(?s:.*)}", observer.around(dispatch), expect_handler=leave_to_reader)
    app.router.add_route("*", "/files/{path:(?s:.*)}", observer.around(get_file), expect_handler=leave_to_reader)
    app.router.add_get("/", observer.around(welcome))
    app.router.add_get("/healthz", observer.around(healthz, spare=True))
    app.router.add_get("/readyz", observer.around(readyz, spare=True))
    return app
