"""The solver process's way out: who may use it, and where it leads."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from builder.channels.policy import ChannelPolicy
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.network import guarding_proxy
from builder.network.addresses import AddressGuard
from builder.network.guarding_proxy import MOST_CONNECTIONS, GuardingProxy
from builder.solve.lanes import LOADS
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from tests.support.builder.proxied import ask_proxy, status
from tests.support.servers.inside import STATUS, Inside, inside
from tests.support.servers.slow import SlowServer


@pytest.fixture
async def server() -> AsyncIterator[Inside]:
    async with inside() as running:
        yield running


async def test_what_is_admitted_is_passed_on(server: Inside) -> None:
    url = f"http://{server.host}"
    async with GuardingProxy(AddressGuard([server.host])) as proxy:
        proxy.admit(url, ())
        answer = await ask_proxy(proxy, f"GET {url}/a?b=c HTTP/1.1")
        assert answer == f"HTTP/1.1 {STATUS} Secret\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        answer = await ask_proxy(proxy, f"CONNECT {server.host} HTTP/1.1", body=b"GET / HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 Connection Established\r\n\r\nHTTP/1.1 418")
    assert len(server.connections) == 2


@pytest.mark.parametrize("secret", ["", "x", "condery"])
async def test_nobody_else_may_use_it(server: Inside, secret: str) -> None:
    async with GuardingProxy(AddressGuard([server.host])) as proxy:
        proxy.admit(f"http://{server.host}", ())
        for line in (f"GET http://{server.host}/ HTTP/1.1", f"CONNECT {server.host} HTTP/1.1"):
            assert status(await ask_proxy(proxy, line, secret=secret)) == 407
        assert "condery:" in proxy.url
    assert server.connections == []


async def test_a_redirect_is_followed_without_the_secret_for_a_while(server: Inside) -> None:
    """As rattler follows it; only by http, to where a channel is, and after an answer to somebody who had it."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: //{server.host}/x\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async def bare(proxy: GuardingProxy, line: str) -> int:
        parts = urlsplit(proxy.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"{line}\r\nHost: x\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return status(answer)

    upstream = await asyncio.start_server(redirect, "127.0.0.1", 0)
    host = f"127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    async with upstream, GuardingProxy(AddressGuard([])) as proxy:
        proxy.admit(f"http://{host}", [host])
        assert await bare(proxy, f"GET http://{server.host}/x HTTP/1.1") == 426
        assert status(await ask_proxy(proxy, f"GET http://{host}/ HTTP/1.1")) == 302
        assert await bare(proxy, f"GET http://{server.host}/x HTTP/1.1") == 426, "no channel is there"
        assert server.connections == []
        proxy.admit(f"http://{server.host}", [server.host])
        assert await bare(proxy, f"GET http://{server.host}/x HTTP/1.1") == STATUS
        assert await bare(proxy, f"CONNECT {server.host} HTTP/1.1") == 407
        assert await bare(proxy, f"GET http://{host}/ HTTP/1.1") == 426
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", 407),
        ("CONNECT localhost:{port} HTTP/1.1", 407),
        ("CONNECT LOCALHOST:{port} HTTP/1.1", 407),
        ("CONNECT [::1]:{port} HTTP/1.1", 407),
        ("CONNECT [::ffff:127.0.0.1]:{port} HTTP/1.1", 407),
        ("CONNECT 2130706433:{port} HTTP/1.1", 407),
        ("CONNECT 127.1:{port} HTTP/1.1", 407),
        ("CONNECT 169.254.169.254:80 HTTP/1.1", 407),
        ("GET http://named.invalid/ HTTP/1.1", 426),
        ("GET http://127.0.0.1:{port}/ HTTP/1.1", 426),
        ("CONNECT nobody.invalid:443 HTTP/1.1", 599),
        ("CONNECT 127.0.0.1 HTTP/1.1", 400),
        ("CONNECT 127.0.0.1:99999 HTTP/1.1", 400),
        ("CONNECT 127.0.0.1:0 HTTP/1.1", 400),
        ("CONNECT a@127.0.0.1:{port} HTTP/1.1", 400),
        ("POST http://127.0.0.1:{port}/ HTTP/1.1", 405),
        ("GET https://127.0.0.1:{port}/ HTTP/1.1", 405),
        ("GET file:///etc/passwd HTTP/1.1", 405),
        ("GET / HTTP/1.1", 405),
        ("GET http://a@127.0.0.1:{port}/ HTTP/1.1", 400),
        ("nonsense", 0),
        ("GET  http://127.0.0.1:{port}/ HTTP/1.1", 0),
        ("GET http://127.0.0.1:{port}/ SPDY/1", 0),
    ],
)
async def test_what_is_refused(server: Inside, line: str, answer: int) -> None:
    async with GuardingProxy(AddressGuard([])) as proxy:
        assert status(await ask_proxy(proxy, line.format(port=server.port))) == answer
    assert server.connections == []


async def test_a_name_is_connected_to_at_the_address_that_was_checked(server: Inside) -> None:
    """Each connection looks the name up once; what it means a moment later does not matter."""
    answers = ["127.0.0.1", "169.254.169.254", "127.0.0.1", "8.8.8.8"]

    def look_up(_host: str, _port: int) -> list[str]:
        return [answers.pop(0)]

    host = f"rebinding.example:{server.port}"
    async with GuardingProxy(AddressGuard([host], look_up)) as proxy:
        assert status(await ask_proxy(proxy, f"CONNECT {host} HTTP/1.1", body=b"GET / HTTP/1.1\r\n\r\n")) == 200
    assert answers == ["169.254.169.254", "127.0.0.1", "8.8.8.8"]
    assert len(server.connections) == 1
    async with GuardingProxy(AddressGuard([], look_up)) as proxy:
        assert status(await ask_proxy(proxy, f"CONNECT {host} HTTP/1.1")) == 407
        assert status(await ask_proxy(proxy, f"CONNECT {host} HTTP/1.1")) == 407
    assert answers == ["8.8.8.8"]
    assert len(server.connections) == 1


async def test_one_bad_address_among_good_ones_refuses_the_name(server: Inside) -> None:
    guard = AddressGuard([], lambda _host, _port: ["8.8.8.8", "127.0.0.1"])
    async with GuardingProxy(guard) as proxy:
        assert status(await ask_proxy(proxy, f"CONNECT a.example:{server.port} HTTP/1.1")) == 407
    assert server.connections == []


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"HTTP/1.1 407 Mine\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n"),
        (
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nKeep-Alive: 9\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\nConn",
        ),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (70 << 10) + b"\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\n", b""),
        (b"220 mail.example ESMTP\r\n\r\n", b""),
        (b"", b""),
    ],
)
async def test_answers(sent: bytes, expected: bytes) -> None:
    """An upstream's cannot pass for the proxy's own, and its head is bounded."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    upstream = await asyncio.start_server(answer, "127.0.0.1", 0)
    host = f"127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    async with upstream, GuardingProxy(AddressGuard([host])) as proxy:
        proxy.admit(f"http://{host}", ())
        got = await ask_proxy(proxy, f"GET http://{host}/ HTTP/1.1")
    assert got.startswith(expected)
    assert bool(got) == bool(expected)


async def test_bounds(server: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding_proxy, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(guarding_proxy, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(guarding_proxy, "MOST_CONNECTIONS", 2)
    async with GuardingProxy(AddressGuard([server.host])) as proxy:
        parts = urlsplit(proxy.url)
        held = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await ask_proxy(proxy, f"CONNECT {server.host} HTTP/1.1") == b"", "two are there already"
        for reader, writer in held:
            assert await asyncio.wait_for(reader.read(), 5) == b"", "a head has to come in time"
            writer.close()
        assert await ask_proxy(proxy, f"CONNECT {server.host} HTTP/1.1", "X: " + "x" * (70 << 10)) == b""
        begin = asyncio.get_running_loop().time()
        assert status(await ask_proxy(proxy, f"CONNECT {server.host} HTTP/1.1")) == 200, "and then nothing moves"
        assert asyncio.get_running_loop().time() - begin < 5


async def test_hanging_channels_leave_connections_for_others(tmp_path: Path) -> None:
    """As many as may be read at a time, of one platform and noarch each."""
    asked_for = 20
    settings = SolverSettings(tmp_path / "repodata", ChannelPolicy(others="all"), refresh=0)
    async with SlowServer(tmp_path, slow=["hanging"]) as slow, Solver(settings) as solver:
        specs = [EnvironmentSpec((PackageItem("a"),), (f"{slow.url}/hanging-{n}",)) for n in range(asked_for)]
        loads = [asyncio.create_task(solver.load(spec, 60)) for spec in specs]
        async with asyncio.timeout(30):
            while slow.stuck < asked_for:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        held = len(solver._proxy._tasks) / asked_for
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
    assert 0 < held * LOADS <= MOST_CONNECTIONS // 2 // 2


def test_one_process_cannot_take_all_connections() -> None:
    async def most(files: int) -> tuple[int, int]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        async with GuardingProxy(AddressGuard([])) as proxy:
            return proxy._most, proxy.most_each

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert asyncio.run(most(1024)) == (64, 32)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_closing_ends_what_runs(server: Inside) -> None:
    async with GuardingProxy(AddressGuard([server.host])) as proxy:
        waiting = asyncio.create_task(ask_proxy(proxy, f"CONNECT {server.host} HTTP/1.1"))
        await asyncio.sleep(0.1)
    assert status(await asyncio.wait_for(waiting, 5)) == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_of_the_environment_is_gone_through(
    server: Inside, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Another guarding proxy plays it: it knows a name that is not known here, and wants a password."""

    def unknown(host: str, _port: int) -> list[str]:
        if host == "inside.example":
            return ["10.0.0.1"]
        raise OSError("no such name")

    host = f"channel.example:{server.port}"
    everywhere = AddressGuard([host], lambda _host, _port: ["127.0.0.1"])
    outside = GuardingProxy(everywhere, lambda _url: None)
    async with outside as outer, GuardingProxy(AddressGuard([], unknown)) as proxy:
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.setenv(name, outer.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        outer.admit(f"http://{host}", ())
        proxy.admit(f"http://{host}", ())
        proxy.admit("http://inside.example", ())
        if scheme == "http":
            assert status(await ask_proxy(proxy, f"GET http://{host}/a HTTP/1.1")) == STATUS
            assert status(await ask_proxy(proxy, "GET http://inside.example/ HTTP/1.1")) == 407
        else:
            answer = await ask_proxy(proxy, f"CONNECT {host} HTTP/1.1", body=b"GET / HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 Connection Established\r\n\r\nHTTP/1.1 418")
            assert status(await ask_proxy(proxy, "CONNECT inside.example:443 HTTP/1.1")) == 407
            assert status(await ask_proxy(proxy, "CONNECT other.example:1 HTTP/1.1")) == 599, "the one outside refuses"
    assert len(server.connections) == 1
