"""Too many connections: those that wait give way, health is still answered, and the log says so once."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.peers.connections import FILES_EACH, FIRST_SECONDS, OWN_FILES, Bounds, bounds_for
from registry.peers.networks import client_of
from tests.support.server import Server, StartServer

FILES = 1024
UPLOAD = b"POST /v2/a/blobs/uploads/?digest=sha256:" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
"""The head of a request whose body does not come."""

FLAGS = ("--base", "scratch", "--log-format", "json")


@pytest.fixture
def small_server(start_server: StartServer) -> Server:
    """One that may open 1024 files, soft and hard."""
    return start_server(*FLAGS, prefix=("prlimit", f"--nofile={FILES}:{FILES}"))


@contextlib.contextmanager
def connections(
    server: Server, count: int, sent: bytes = b"", source: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(socket.create_connection(("127.0.0.1", server.port), 30, (source, 0)))
            if sent:
                with contextlib.suppress(OSError):
                    opened[-1].sendall(sent)
        yield opened
    finally:
        for each in opened:
            each.close()


def get(server: Server, path: str, source: str = "127.0.0.1") -> tuple[int, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(source, 0))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Retry-After"]
    finally:
        connection.close()


def wait_until_served(server: Server, source: str = "127.0.0.1") -> None:
    """What was just opened may have a request on its way, and what waits to be opened takes the place of what closed.

    How long it takes until all have been opened depends on the load.
    """
    in_a_row = 0
    while in_a_row < 20:
        time.sleep(FIRST_SECONDS / 10)
        in_a_row = in_a_row + 1 if is_served(server, source) else 0


def is_served(server: Server, source: str) -> bool:
    """Whether a connection gets an answer: a server that trusts proxies asks for credentials."""
    return get(server, "/v2/", source)[0] in (200, 401)


def warnings(server: Server) -> list[dict[str, object]]:
    lines = map(json.loads, server.log.read_text().splitlines())
    return [line for line in lines if str(line["event"]).startswith("too many connections")]


@pytest.mark.parametrize("sent", [b"", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half a head"])
def test_idle_connections_do_not_shut_the_server(small_server: Server, sent: bytes) -> None:
    with connections(small_server, 1100, sent):
        wait_until_served(small_server)
        for _ in range(20):
            assert get(small_server, "/v2/") == (200, None)
            assert get(small_server, "/healthz") == (200, None)
    assert len(warnings(small_server)) == 1


def test_connections_at_work_are_not_closed_and_health_is_answered(small_server: Server) -> None:
    """As many uploads as there may be connections, none of which goes on."""
    bound = bounds_for(FILES, 10_000, 1000).total
    with connections(small_server, bound, UPLOAD) as working:
        assert get(small_server, "/healthz")[0] == 200
        assert get(small_server, "/readyz")[0] == 200
        assert get(small_server, "/v2/") == (503, "5")
        # who has no body to send is let go on as before once there is room
        for each in working[:20]:
            each.close()
        for _ in range(100):
            if get(small_server, "/v2/")[0] == 200:
                break
        assert get(small_server, "/v2/")[0] == 200


def test_one_address_has_a_bound_of_its_own(start_server: StartServer) -> None:
    server = start_server(*FLAGS, "--max-connections-per-address", "20")
    with connections(server, 20, UPLOAD, "127.0.0.2"):
        assert get(server, "/v2/", "127.0.0.2")[0] == 503
        assert is_served(server, "127.0.0.3")


def test_a_trusted_proxy_has_no_bound_of_its_own(start_server: StartServer) -> None:
    server = start_server(*FLAGS, "--max-connections-per-address", "20", "--trusted-proxies", "127.0.0.2")
    with connections(server, 30, UPLOAD, "127.0.0.2"):
        assert is_served(server, "127.0.0.2")


def test_the_soft_limit_of_files_is_raised(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(*FLAGS, prefix=("prlimit", "--nofile=256:4096"))
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == ["4096", "4096"]


def test_bounds_leave_files_for_the_server_itself() -> None:
    assert bounds_for(1 << 20, 10_000, 1000) == Bounds(10_000, 1000)
    for files in (64, 256, 1024, 4096, 1 << 16):
        bounds = bounds_for(files, 1 << 30, 1 << 30)
        assert 8 <= bounds.total <= files // 2
        assert bounds.per_address == bounds.total
        assert bounds.total * FILES_EACH + min(OWN_FILES, files // 2) <= max(files, 8 * FILES_EACH)
    assert bounds_for(FILES, 10_000, 1000).total >= 128


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_of_64_bits_is_one_client(address: str, client: str) -> None:
    assert client_of(address) == client


def test_idle_connections_of_others_give_way_to_a_client_when_the_heaviest_is_all_at_work(
    start_server: StartServer,
) -> None:
    server = start_server(*FLAGS, "--max-connections", "60", "--trusted-proxies", "127.0.0.2")
    with connections(server, 40, UPLOAD, "127.0.0.2"), connections(server, 20, b"", "127.0.0.3"):
        wait_until_served(server, "127.0.0.4")
        for _ in range(10):
            assert is_served(server, "127.0.0.4")
