"""Registries of base images that send the server inside."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from builder.errors import RemoteUnavailable
from builder.network.addresses import AddressGuard, InternalAddress
from builder.network.organisation import are_of_one, find_organisation
from builder.remote.guarded_adapter import GuardedAdapter
from builder.remote.logins import Login
from builder.remote.reference import ImageReference
from builder.remote.repository import RemoteRepository, RepeatableBody
from storage.digest import Digest
from tests.support.servers.inside import STATUS, TARGETS, Inside, inside

# urllib3 leaves connections that it has dropped to the garbage collector, which may come in the middle of a test
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
async def hidden() -> AsyncIterator[Inside]:
    async with inside() as running:
        yield running


@contextmanager
def registry(status: int, headers: dict[str, str]) -> Iterator[str]:
    """`host:port` of one that answers everything so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def repository(host: str, login: Login | None = None, insecure: tuple[str, ...] = ()) -> RemoteRepository:
    return RemoteRepository(
        ImageReference.parse(f"{host}/x:1"), logins={host: login} if login else {}, insecure=insecure
    )


def refused(error: RemoteUnavailable) -> bool:
    text = str(error)
    return ("refers to" in text or "send its login" in text) and f" {STATUS}" not in text and "Secret" not in text


@pytest.mark.parametrize("target", TARGETS)
async def test_cve_2026_2376_a_registry_that_redirects_inside(hidden: Inside, target: str) -> None:
    with registry(307, {"Location": target.format(port=hidden.port)}) as host:
        with pytest.raises(RemoteUnavailable) as caught:
            await asyncio.to_thread(repository(host).manifest, "1")
    assert refused(caught.value)
    assert hidden.connections == []


@pytest.mark.parametrize("login", [None, Login("me", "s3cret")], ids=["anonymous", "login"])
@pytest.mark.parametrize("target", TARGETS)
async def test_a_token_server_inside(hidden: Inside, target: str, login: Login | None) -> None:
    realm = f'Bearer realm="{target.format(port=hidden.port)}",service="x"'
    with registry(401, {"WWW-Authenticate": realm}) as host:
        with pytest.raises(RemoteUnavailable) as caught:
            await asyncio.to_thread(repository(host, login).manifest, "1")
    assert refused(caught.value)
    assert hidden.connections == []


@pytest.mark.parametrize("target", TARGETS)
async def test_an_upload_that_is_taken_inside(hidden: Inside, target: str) -> None:
    body = RepeatableBody(3, lambda: [b"abc"])
    with registry(202, {"Location": target.format(port=hidden.port)}) as host:
        with pytest.raises(RemoteUnavailable) as caught:
            await asyncio.to_thread(repository(host).put_blob, Digest.of(b"abc"), body)
    assert refused(caught.value)
    assert hidden.connections == []


async def test_what_is_named_is_asked_and_its_status_not_told(hidden: Inside) -> None:
    with registry(307, {"Location": f"http://{hidden.host}/"}) as host:
        with pytest.raises(RemoteUnavailable) as caught:
            await asyncio.to_thread(repository(host, insecure=(hidden.host,)).manifest, "1")
    assert len(hidden.connections) == 1
    assert refused(caught.value)


async def test_cve_2026_0600_a_name_is_connected_to_at_the_address_that_was_checked(hidden: Inside) -> None:
    import requests

    answers = ["127.0.0.1", "169.254.169.254", "127.0.0.1", "8.8.8.8"]

    def look_up(_host: str, _port: int) -> list[str]:
        return [answers.pop(0)]

    def status(guard: AddressGuard) -> int:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", GuardedAdapter(guard))
            return session.get(f"http://rebinding.example:{hidden.port}/").status_code

    assert await asyncio.to_thread(status, AddressGuard([f"rebinding.example:{hidden.port}"], look_up)) == STATUS
    assert answers[0] == "169.254.169.254", "looked up once"
    for _ in range(2):
        with pytest.raises(InternalAddress):
            await asyncio.to_thread(status, AddressGuard([], look_up))
    assert answers == ["8.8.8.8"]
    assert len(hidden.connections) == 1


@pytest.mark.parametrize(
    ("host", "other", "together"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.example.co.uk", "auth.example.co.uk", True),
        ("Registry.Example.COM.", "auth.example.com", True),
        ("registry.team.co.uk", "auth.evil.co.uk", False),
        ("team.github.io", "evil.github.io", False),
        ("a.s3.amazonaws.com", "b.s3.amazonaws.com", False),
        ("registry.com", "evil.com", False),
        ("127.0.0.1", "10.0.0.1", False),
        ("127.0.1", "10.0.1", False),
        ("registry.internal", "evil.internal", False),
        ("a.corp.internal", "b.corp.internal", True),
        ("localhost", "localhost", True),
        ("localhost", "evil.localhost", False),
    ],
)
def test_who_shares_a_login(host: str, other: str, together: bool) -> None:
    assert are_of_one(host, other) == together


@pytest.mark.parametrize("host", ["", ".", "..", "x..y", "münchen.de", "[::1]", "co.uk", "0x7f.1", "a" * 300])
def test_hosts_that_are_odd(host: str) -> None:
    assert isinstance(find_organisation(host), str)
