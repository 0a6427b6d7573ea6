"""The proxy of the environment gets nothing that is for this machine, from any of the clients that go through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import requests

from builder.network.addresses import AddressGuard
from builder.network.outer_proxy import find_outer_proxy
from builder.network.routes import Routes
from builder.remote.guarded_adapter import GuardedAdapter
from tests.support.servers.inside import STATUS, Inside, inside
from tests.support.servers.outer_proxy import OuterProxy, outer_proxy


@pytest.fixture
async def server() -> AsyncIterator[Inside]:
    async with inside() as running:
        yield running


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[OuterProxy]:
    with outer_proxy(monkeypatch) as running:
        yield running


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "[::1]", "LOCALHOST"])
def test_it_is_for_other_machines_alone(proxy: OuterProxy, host: str) -> None:
    for scheme in ("http", "https"):
        assert find_outer_proxy(f"{scheme}://{host}:5000/v2/") is None
        assert find_outer_proxy(f"{scheme}://registry.example:5000/v2/") is not None


async def test_what_channels_and_issuers_are_sent(proxy: OuterProxy, server: Inside) -> None:
    routes = Routes(AddressGuard([server.host]), 2, 10)
    try:
        async with routes.get(f"http://{server.host}/a", {"Authorization": "secret"}) as answer:
            assert answer.status == STATUS
        assert (proxy.asked, len(server.connections)) == ([], 1)
        async with routes.get("http://channel.example/a", {}) as answer:
            assert answer.status == 418
    finally:
        await routes.close()
    assert proxy.asked == ["http://channel.example/a"]


async def test_what_registries_of_bases_are_sent(proxy: OuterProxy, server: Inside) -> None:
    def ask(url: str) -> int:
        with requests.Session() as session:
            session.mount("http://", GuardedAdapter(AddressGuard([server.host, "registry.example"])))
            return session.get(url, headers={"Authorization": "secret"}, timeout=20).status_code

    assert await asyncio.to_thread(ask, f"http://{server.host}/v2/") == STATUS
    assert (proxy.asked, len(server.connections)) == ([], 1)
    assert await asyncio.to_thread(ask, "http://registry.example/v2/") == 418
    assert proxy.asked == ["http://registry.example/v2/"]
