"""Names whose name servers do not answer hold up nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from builder.network.addresses import AddressGuard
from builder.network.connector import make_connector
from builder.network.guarding_proxy import GuardingProxy
from builder.network.look_ups import LookUps, ThreadsResolver
from builder.network.outer_proxy import find_outer_proxy
from builder.network.routes import Routes
from tests.support.builder.proxied import ask_proxy, status

NAMES = [f"hung{number}.example" for number in range(50)]
"""More than there are threads for what blocks."""
WITHIN = 20


class NameServer:
    """Answers for no name of NAMES until it is released; `asked` has who waits, and has waited."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()

    def look_up(self, host: str, _port: int) -> list[str]:
        if host in NAMES:
            self.asked.append(host)
            self.released.wait()
            raise OSError("no answer")
        return ["127.0.0.1"]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """What the system asks."""
    server = NameServer()

    def getaddrinfo(host: str, port: int, *_args: Any, **_options: Any) -> list[Any]:
        found = server.look_up(host, port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield server
    server.released.set()


@contextlib.asynccontextmanager
async def hanging(names: NameServer, do: Callable[[str], Awaitable[object]]) -> AsyncIterator[None]:
    """`do` is done with each of NAMES, all of which hang in here."""
    tasks = [asyncio.ensure_future(do(name)) for name in NAMES]
    try:
        async with asyncio.timeout(WITHIN):
            while set(names.asked) != set(NAMES):
                await asyncio.sleep(0.01)
        yield
    finally:
        names.released.set()
        await asyncio.gather(*tasks, return_exceptions=True)


async def nothing_else_waits() -> None:
    async with asyncio.timeout(WITHIN):
        assert await asyncio.to_thread(lambda: "done") == "done"


async def test_the_solvers_proxy(names: NameServer) -> None:
    async with GuardingProxy(AddressGuard(["good.example:1"])) as proxy:
        async with hanging(names, lambda name: ask_proxy(proxy, f"CONNECT {name}:443 HTTP/1.1")):
            await nothing_else_waits()
            assert status(await ask_proxy(proxy, "CONNECT good.example:1 HTTP/1.1")) == 599, "nobody listens there"


@pytest.mark.parametrize("outer", ["", "http://proxy.example:1"])
async def test_downloads(names: NameServer, monkeypatch: pytest.MonkeyPatch, outer: str) -> None:
    """Also where a proxy of the environment connects, and names are looked up for the guard alone."""
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(variable, outer)
    assert bool(find_outer_proxy("http://hung0.example/")) == bool(outer)
    routes = Routes(AddressGuard([]), 0, 60)

    async def get(name: str) -> None:
        async with routes.get(f"http://{name}/x", {}):
            pass

    async with hanging(names, get):
        await nothing_else_waits()
    await routes.close()


async def test_a_mirror_and_webhooks(names: NameServer) -> None:
    connector = make_connector(AddressGuard([]))
    resolver = connector._resolver
    async with hanging(names, lambda name: resolver.resolve(name, 443, socket.AF_UNSPEC)):
        await nothing_else_waits()
        [found] = await ThreadsResolver().resolve("good.example", 443)
        assert (found["host"], found["port"]) == ("127.0.0.1", 443)
    await connector.close()


async def test_one_look_up_serves_all_who_want_it_now(names: NameServer) -> None:
    look_ups: LookUps[list[str]] = LookUps()
    first, *others = [
        asyncio.create_task(look_ups.do("hung0", lambda: names.look_up("hung0.example", 1))) for _ in range(5)
    ]
    await asyncio.sleep(0.05)
    first.cancel()
    names.released.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(each) for each in results] == [asyncio.CancelledError, *[OSError] * 4]
    assert names.asked == ["hung0.example"]
    assert await look_ups.do("hung0", lambda: names.look_up("good.example", 1)) == ["127.0.0.1"], "another time"


async def test_there_is_a_bound(names: NameServer) -> None:
    look_ups: LookUps[list[str]] = LookUps(most=2)
    tasks = [asyncio.create_task(look_ups.do(name, lambda name=name: names.look_up(name, 1))) for name in NAMES[:3]]  # type: ignore[misc]  # the lambda's default
    await asyncio.sleep(0.1)
    assert names.asked == NAMES[:2]
    names.released.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert names.asked == NAMES[:3]
