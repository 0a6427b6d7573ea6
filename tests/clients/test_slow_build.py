"""An image that takes 40 seconds to build: every client waits for it, none of them twice, and one build serves all."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import pytest

from storage.digest import Digest
from storage.oci import OCI_INDEX
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.programs import Docker
from tests.support.registry.stored import builds
from tests.support.server import Server
from tests.support.servers.channel_server import ChannelServer, in_a_thread

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]

BUILD_SECONDS = 40
REPOSITORY = "conda-store-dynamic/quick/slow"
MANIFEST = f"/v2/{REPOSITORY}/manifests/latest"
PROGRAMS = ("docker", "containerd", "podman", "skopeo", "oras", "python_docker")

HEADERS_WITHIN = 30
"""Seconds after which containerd 2.3 gives up a request without response headers."""
HEAD_WITHIN = 25
"""Seconds a HEAD may take: the 20 of the rule, and some for a busy machine."""


def ask(server: Server, method: str, timeout: float) -> tuple[http.client.HTTPMessage, bytes]:
    """Headers and body of the manifest, by a client that gives up when nothing comes for `timeout` seconds."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=timeout)
    try:
        connection.request(method, MANIFEST, headers={"Accept": OCI_INDEX})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == OCI_INDEX
        return answer.headers, answer.read()
    finally:
        connection.close()


@dataclass
class SlowPulls:
    """Every client's pull, begun at the same time; `released` is when the build could go on (monotonic seconds)."""

    server: Server
    channel: ChannelServer
    pulls: dict[str, Future[float]]
    skipped: dict[str, str]
    head: Future[tuple[http.client.HTTPMessage, bytes]]
    get: Future[tuple[http.client.HTTPMessage, bytes]]
    released: float = 0


def ended(work: Callable[[], object]) -> float:
    """When `work` was done."""
    work()
    return time.monotonic()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[SlowPulls]:
    directory = tmp_path_factory.mktemp("slow")
    clients, skipped = {}, {}
    for name in PROGRAMS:
        try:
            clients[name] = request.getfixturevalue(name)
        except pytest.skip.Exception as reason:
            skipped[name] = str(reason)
    packages = [Package(name, noarch="generic", files={f"share/{name}": b"here\n"}) for name in ("quick", "slow")]
    asyncio.run(make_channel(directory / "channel", packages))
    channel = ChannelServer(directory / "channel")
    held = channel.hold("slow-1.0-0.conda")
    server = Server(("--base", "scratch", "--workers", "1"), directory / "data", directory / "log")
    with in_a_thread(channel), ThreadPoolExecutor(len(clients) + 2) as threads:
        server.flags += ("--channels", channel.url)
        server.start()
        try:
            reference = f"{server.address}/{REPOSITORY}:latest"
            state = SlowPulls(
                server,
                channel,
                {name: threads.submit(ended, partial(client.pull, reference)) for name, client in clients.items()},
                skipped,
                threads.submit(ask, server, "HEAD", HEAD_WITHIN),
                threads.submit(ask, server, "GET", HEADERS_WITHIN),
            )
            assert held.reached.wait(60)
            threading.Event().wait(BUILD_SECONDS)
            state.released = time.monotonic()
            held.released.set()
            yield state
        finally:
            held.released.set()
            threads.shutdown()
            server.kill()
            if "docker" in clients:
                Docker().remove_images_of(server.address)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_client_waits_for_the_image(name: str, slow: SlowPulls) -> None:
    if name in slow.skipped:
        pytest.skip(slow.skipped[name])
    assert slow.pulls[name].result() > slow.released


def test_who_gives_up_after_30_seconds_without_headers_gets_it(slow: SlowPulls) -> None:
    headers, body = slow.get.result()
    assert "Docker-Content-Digest" not in headers
    whole, again = ask(slow.server, "GET", HEADERS_WITHIN)
    assert body == again
    assert whole["Docker-Content-Digest"] == Digest.of(body)


def test_head_answers_while_the_image_is_built(slow: SlowPulls) -> None:
    headers, _ = slow.head.result()
    assert "Docker-Content-Digest" not in headers


def test_all_of_them_had_one_build(slow: SlowPulls) -> None:
    for pull in slow.pulls.values():
        pull.result()
    assert [build.status for build in builds(slow.server)] == ["COMPLETED"]
    assert len(slow.channel.seen("slow-1.0-0.conda")) == 1
