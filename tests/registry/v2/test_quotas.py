"""Quotas as clients meet them: refused before the body, cut in its middle, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.http.settings import HttpSettings
from storage.digest import Digest
from storage.quotas.limits import Limits, Quota
from storage.quotas.patterns import Immutable
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel
from tests.support.registry.pushes import MANIFEST, Pusher
from tests.support.registry.serving import Site, serving
from tests.support.server import Server, StartServer

DATA = random.Random(1).randbytes(300_000)
DIGEST = Digest.of(DATA)
INDEX = "application/vnd.oci.image.index.v1+json"
LIMITS = Limits((Quota.parse("team/* bytes=1MB tags=3"),), (Immutable.parse("team/*:v*"),))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, HttpSettings(stall_seconds=2), limits=LIMITS) as running:
        yield running


def files(root: Path) -> list[Path]:
    return [path for path in (root / "blobs").rglob("*") if path.is_file()]


async def asking_first(site: Site, method: str, path: str, length: int, *headers: str) -> str:
    """The status line that a client gets which waits to be asked for its body."""
    reader, writer = await asyncio.open_connection(*site.host_port)
    lines = [
        f"{method} {path} HTTP/1.1", "Host: a", "Expect: 100-continue", f"Content-Length: {length}", *headers, "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return line.decode().strip()


async def test_a_blob_that_does_not_fit_is_refused_before_it_is_sent(site: Site, push: Pusher, tmp_path: Path) -> None:
    location = await push.open("team/a")
    for method, path in (("POST", f"/v2/team/a/blobs/uploads/?digest={DIGEST}"), ("PATCH", location)):
        assert (await asking_first(site, method, path, 1_000_001)).startswith("HTTP/1.1 403 ")
    location = await push.open("team/a")
    assert (await asking_first(site, "PUT", f"{location}?digest={DIGEST}", 10**12)).startswith("HTTP/1.1 403 ")
    assert (await push.state(location)).status == 404
    assert files(tmp_path) == []
    assert (await asking_first(site, "PATCH", await push.open("team/a"), 999_999)).startswith("HTTP/1.1 100 ")


async def test_a_manifest_that_a_rule_refuses_is_refused_before_it_is_sent(site: Site, push: Pusher) -> None:
    body = await push.image("team/a", b"x")
    for tag in ("v1", "two", "three"):
        assert (await push.manifest("team/a", tag, body)).status == 201
    kind = f"Content-Type: {MANIFEST}"
    for reference in ("four", f"{DIGEST}?tag=v1", f"{DIGEST}?tag=four"):
        line = await asking_first(site, "PUT", f"/v2/team/a/manifests/{reference}", len(body), kind)
        assert line.startswith("HTTP/1.1 403 ")
    assert (await push.whole("team/a", DATA, DIGEST)).status == 201
    assert (await push.whole("team/a", DATA * 2, Digest.of(DATA * 2))).status == 201
    line = await asking_first(site, "PUT", "/v2/team/a/manifests/two", 200_000, kind)
    assert line.startswith("HTTP/1.1 403 ")


async def test_a_stream_is_cut_where_the_quota_ends(push: Pusher, tmp_path: Path) -> None:
    """Nobody says how long it is going to be."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            yield DATA
            sent += len(DATA)

    location = await push.open("team/a")
    answer = await push.request("PATCH", location, data=endless())
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "team/* may hold 1,000,000 bytes" in answer.message
    assert sent < 100_000_000
    assert (await push.state(location)).status == 404
    assert files(tmp_path) == []
    assert (await push.whole("team/b", DATA * 3, Digest.of(DATA * 3))).status == 201


async def test_chunks_count_though_no_session_is_ended(push: Pusher, tmp_path: Path) -> None:
    for _ in range(3):
        assert (await push.chunk(await push.open("team/a"), DATA, 0)).status == 202
    location = await push.open("team/b")
    answer = await push.chunk(location, DATA, 0)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "900,000 bytes belong to unfinished uploads" in answer.message
    assert (await push.state(location)).status == 404
    assert len(files(tmp_path)) == 3


async def test_what_is_refused_is_in_no_list(push: Pusher) -> None:
    assert (await push.whole("team/a", DATA, DIGEST)).status == 201
    assert (await push.whole("team/a", bytes(900_000), Digest.of(bytes(900_000)))).status == 403
    assert json.loads((await push.request("GET", "/v2/_catalog")).body) == {"repositories": []}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("ranged", [False, True])
@pytest.mark.parametrize("repository", ["team/a", "free"])
async def test_what_came_of_a_request_that_broke_off_is_kept(
    site: Site, push: Pusher, method: str, ranged: bool, repository: str
) -> None:
    location = await push.open(repository)
    assert (await push.chunk(location, DATA[:1000], 0)).status == 202
    path = f"{location}?digest={DIGEST}" if method == "PUT" else location
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(DATA) - 1000}\r\n"
    head += f"Content-Range: 1000-{len(DATA) - 1}\r\n" if ranged else ""
    size, pause = 1000, 0.1
    while size == 1000:
        _reader, writer = await asyncio.open_connection(*site.host_port)
        # what the system has been given arrives, though the connection is closed; what waits here would be dropped
        writer.transport.set_write_buffer_limits(0)
        writer.write(f"{head}\r\n".encode() + DATA[1000:200_000])
        await writer.drain()
        # a request whose client is gone before it is looked at brings nothing, and a busy machine looks late
        await asyncio.sleep(pause)
        writer.transport.abort()
        await asyncio.sleep(pause)
        size = int((await push.state(location)).headers["Range"].partition("-")[2]) + 1
        pause *= 2
    assert size == 200_000
    assert (await push.finish(location, DIGEST, DATA[size:], size)).status == 201
    assert await push.read(repository, DIGEST) == DATA


async def test_a_namespace_that_is_full_is_refused_until_an_image_is_deleted(tmp_path: Path) -> None:
    limits = Limits(namespace=1_000_000)
    async with serving(tmp_path, limits=limits) as site:
        push = Pusher(site)
        body = await push.image("team/a", DATA, DATA[:100_000])
        created = await push.manifest("team/a", "v1", body)
        assert created.status == 201
        large = bytes(900_000)
        path = f"/v2/team/b/blobs/uploads/?digest={Digest.of(large)}"
        assert (await asking_first(site, "POST", path, len(large))).startswith("HTTP/1.1 403 ")
        answer = await push.whole("team/b", large, Digest.of(large))
        assert (answer.status, answer.code) == (403, "DENIED")
        for text in (
            "namespace team may hold 1,000,000 bytes, but this would make it 1,3", "delete images by their digests",
            "condery namespace quota team SIZE",
        ):  # fmt: skip
            assert text in answer.message
        assert (await push.whole("team2/b", large, Digest.of(large))).status == 201
        # nor is it the way around that another namespace has it
        mount = f"/v2/team/b/blobs/uploads/?mount={Digest.of(large)}&from=team2/b"
        assert (await push.request("POST", mount)).status == 403
        digest = created.headers["Docker-Content-Digest"]
        assert (await push.request("DELETE", f"/v2/team/a/manifests/{digest}")).status == 202
        assert (await push.request("POST", mount)).status == 201


def get(server: Server, path: str) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"{server.url}/v2/conda-store-dynamic{path}", headers={"Accept": f"{INDEX}, {MANIFEST}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "setting",
    [
        ["--images-limit", "500KB"],
        ["--quotas", "conda-store-dynamic/* bytes=500KB"],
        ["--namespace-quota", "500KB"],
    ],
)
def test_what_is_made_on_demand_gives_way_to_what_is_asked_for(
    start_server: StartServer, tmp_path: Path, setting: list[str]
) -> None:
    """By its own name, its digest, and as a file; what cannot fit is refused with both figures and the setting."""
    sizes = {"one": 300_000, "two": 300_000, "large": 2_000_000}
    packages = [
        Package(name=name, files={"share/a": File(random.Random(name).randbytes(size))}) for name, size in sizes.items()
    ]
    channel = asyncio.run(make_channel(tmp_path / "channel", packages))
    server = start_server("--channels", channel, "--base", "scratch", "--workers", "1", *setting)
    status, index = get(server, "/one/manifests/latest")
    assert status == 200, index
    image = json.loads(index)["manifests"][0]["digest"]
    status, body = get(server, f"/manifests/{image}")
    assert status == 200, body
    [layer] = [each["digest"] for each in json.loads(body)["layers"] if each["size"] > 200_000]
    assert get(server, f"/blobs/{layer}")[0] == 200

    status, refusal = get(server, "/two/manifests/latest")
    assert status == 404
    assert b"may hold 500,000 bytes, but this would make it 6" in refusal
    told = "condery namespace quota conda-store-dynamic SIZE" if "namespace" in setting[0] else setting[0][2:]
    assert (told if " " in told else told.replace("-", "_")).encode() in refusal
    status, refusal = get(server, "/large/manifests/latest")
    assert b"may hold 500,000 bytes, but this would make it 1,0" in refusal
    assert get(server, "/one/manifests/latest")[0] == 200

    with sqlite3.connect(server.data_dir / "condery.sqlite", timeout=30) as database:
        database.execute("UPDATE image SET used = ?", (time.time() - 10_000,))
        database.execute("DELETE FROM build")
    database.close()
    assert get(server, "/two/manifests/latest")[0] == 200
    assert get(server, f"/blobs/{layer}")[0] == 404
    for digest in (image, Digest.of(index)):
        assert get(server, f"/manifests/{digest}")[0] == 404
    assert server.stop() == 0
