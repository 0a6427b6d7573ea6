"""Several server processes on one port: the kernel distributes connections among them (SO_REUSEPORT, socket(7)).

This process only holds the port and supervises the others: it replaces one that dies, and stops them all when it is
stopped itself. If this process is gone, however it ended, they stop by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import structlog

from registry.http.settings import HttpSettings
from registry.serving.listening import CannotListen, Listening
from registry.serving.tls import Certificates
from registry.settings.model import Settings
from registry.settings.secrecy import hidden_variables, hide_secrets
from registry.webhooks.settings import WebhookSettings
from registry.webhooks.signing import read_secret
from storage.errors import ConderyError

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0
"""The pause before a dead process is replaced, so that one that cannot run does not use up the machine."""


class ProcessFailed(ConderyError):
    def __init__(self, code: int | None) -> None:
        super().__init__(f"a server process ended with code {code} before it was ready; its log lines say why")


@dataclass(frozen=True)
class _Child:
    process: SpawnProcess
    connection: Connection


async def serve_processes(settings: Settings, on_ready: Callable[[Listening], None]) -> None:
    """Serve with `settings.http.processes` processes until SIGTERM or SIGINT.

    Raises CannotListen, CertificateInvalid, SecretInvalid, ProcessFailed.
    """
    _check_files(settings.http, settings.webhook)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    with reserve_port(settings.http.host, settings.http.port) as port:
        fixed = settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})
        children = [_start(fixed) for _ in range(settings.http.processes)]
        try:
            ready = [asyncio.to_thread(_first_message, child) for child in children]
            listening = await asyncio.gather(*ready)
            on_ready(listening[0])
            await asyncio.gather(*(_look_after(children, index, fixed, stopped) for index in range(len(children))))
        finally:
            for child in children:
                child.process.terminate()
            await asyncio.gather(*(asyncio.to_thread(child.process.join) for child in children))


def _check_files(http: HttpSettings, webhook: WebhookSettings) -> None:
    """Check files once here, rather than let every process report the same mistake."""
    if http.tls_certificate is not None and http.tls_key is not None:
        Certificates(http.tls_certificate, http.tls_key)
    if webhook.webhooks and webhook.webhook_secret_file is not None:
        read_secret(webhook.webhook_secret_file)


@contextlib.contextmanager
def reserve_port(host: str, port: int) -> Iterator[int]:
    """Yield the port, or a free one for 0, bound so that only this user's SO_REUSEPORT sockets may listen on it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind(address)
        except OSError as error:
            raise CannotListen(host, port, error.strerror or str(error)) from error
        yield holder.getsockname()[1]


def _start(settings: Settings) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(settings, hidden_variables(), theirs), name="condery-server")
    process.start()
    theirs.close()
    return _Child(process, ours)


def _first_message(child: _Child) -> Listening:
    try:
        message: Listening = child.connection.recv()
    except EOFError:
        child.process.join()
        raise ProcessFailed(child.process.exitcode) from None
    return message


async def _look_after(children: list[_Child], index: int, settings: Settings, stopped: asyncio.Event) -> None:
    """Replace the child whenever it dies; return once `stopped` is set."""
    while not stopped.is_set():
        if await _has_ended(children[index].process, stopped):
            log.error("server process died", code=children[index].process.exitcode)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), RESTART_SECONDS)
                return
            children[index] = _start(settings)


async def _has_ended(process: SpawnProcess, stopped: asyncio.Event) -> bool:
    """True if the process has ended, False if `stopped` was set first."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    waits = [asyncio.ensure_future(ended.wait()), asyncio.ensure_future(stopped.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(process.sentinel)
        for each in waits:
            each.cancel()
    if ended.is_set():
        process.join()
    return ended.is_set()


def _run(settings: Settings, hidden: Mapping[str, str], connection: Connection) -> None:
    """Run a child process: serve until it is told to stop or its parent is gone.

    It inherits no variables that may hold secrets, and so is told `hidden`.
    """
    # a spawned process starts without any setup, and should import as little as possible before that
    import uvloop

    from registry.logs.lines import configure
    from registry.logs.stream import never_waiting_stderr
    from registry.serving.server import serve_until_stopped

    async def serve() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_reader(connection.fileno(), stopped.set)
        await serve_until_stopped(settings, connection.send, shared_port=True, stopped=stopped)

    hide_secrets(hidden)
    with never_waiting_stderr():
        configure(settings.log)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
