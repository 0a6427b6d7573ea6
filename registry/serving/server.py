"""The running server: the application on a socket, from its start to a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from registry.app import create_app
from registry.parts import CONNECTIONS, PARTS, STOPPING
from registry.peers.connections import bounds_for, raise_file_limit
from registry.serving.arenas import bound_arenas
from registry.serving.listening import CannotListen, Listening
from registry.serving.tls import tls_context
from registry.settings.model import Settings

BACKLOG = 1024
COLLECTED_AFTER = 50_000
"""New objects before the cyclic garbage collector runs: requests leave little for it to find."""

THREADS = 64
"""Threads for waiting on disks and object stores. asyncio would count cores, which such waiting does not use."""


@contextlib.asynccontextmanager
async def serving(settings: Settings, *, shared_port: bool = False) -> AsyncIterator[Listening]:
    """Run a server while the block runs, and end it cleanly.

    At first only /readyz fails, for `drain_seconds`, so that load balancers turn away. Then nothing new is accepted,
    running requests get `shutdown_seconds` to finish, and the builder leaves its unfinished builds to be resumed.

    With `shared_port` other processes listen on the same port. Raises CannotListen, CertificateInvalid.
    """
    async with tls_context(settings.http) as context:
        async with _listening(settings, context, shared_port=shared_port) as listening:
            yield listening


@contextlib.asynccontextmanager
async def _listening(
    settings: Settings, context: ssl.SSLContext | None, *, shared_port: bool
) -> AsyncIterator[Listening]:
    http = settings.http
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="condery"))
    app = create_app(settings)
    bounds = bounds_for(raise_file_limit(), http.max_connections, http.max_connections_per_address)
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,  # pushes are stored as they come; and a small body could unpack to any size
        keepalive_timeout=http.keep_alive,
        shutdown_timeout=http.shutdown_seconds,
        logger=connection_logger(),
    )
    await runner.setup()
    assert runner.server is not None, "the runner is set up"
    app[CONNECTIONS].watch(runner.server, bounds)
    try:
        site = web.TCPSite(
            runner, http.host, http.port, ssl_context=context, backlog=BACKLOG, reuse_port=shared_port or None
        )
        try:
            await site.start()
        except OSError as error:
            raise CannotListen(http.host, http.port, error.strerror or str(error)) from error
        port, obstacle = runner.addresses[0][1], app[PARTS].find_obstacle()
        yield Listening(http.host, port, settings.builder.root, secure=context is not None, obstacle=obstacle)
        app[STOPPING].set()
        await asyncio.sleep(http.drain_seconds)
    finally:
        await runner.cleanup()


async def serve_until_stopped(
    settings: Settings,
    on_ready: Callable[[Listening], None],
    *,
    shared_port: bool = False,
    stopped: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `stopped`; a second signal ends the process at once."""
    bound_arenas()
    stopped = stopped or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(settings, shared_port=shared_port) as listening:
        rest_collector()
        on_ready(listening)
        await stopped.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def rest_collector() -> None:
    """Tell the garbage collector to ignore what is loaded by now, since it stays as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER)


def connection_logger() -> logging.Logger:
    """aiohttp's logger for connections, without a traceback for every client that does not speak HTTP."""
    logger = logging.getLogger("aiohttp.server")
    if not any(isinstance(each, _NoTraceback) for each in logger.filters):
        logger.addFilter(_NoTraceback())
    return logger


class _NoTraceback(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__ == "aiohttp.http_exceptions":
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True
