"""Requests that are not what they say: lengths that lie, messages with two readings, slow ones and endless ones."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from registry.http.settings import HttpSettings
from storage.database import tables
from storage.digest import Digest
from tests.support.registry.pushes import MANIFEST, Pusher
from tests.support.registry.serving import NUMPY, ROOT, Site, serving
from tests.support.registry.wire import CLOSE, exchange, wire

DATA = random.Random(9).randbytes(100_000)
DIGEST = Digest.of(DATA)
HELLO = Digest.of(b"hello")
LARGE = 9 << 20
"""So large that it is received straight from the socket."""

QUICK = HttpSettings(stall_seconds=0.5, keep_alive=1, answer_within=0.2, trickle_interval=0.02, trickle_slowest=0.05)
SMUGGLED = b"GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: a\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
EXPECT = b"Expect: 100-continue\r\n"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, QUICK) as running:
        yield running
    assert "Traceback" not in running.log.getvalue()
    assert "smuggled" not in running.log.getvalue()


def post(digest: str, *lines: bytes, version: bytes = b"1.1", repository: str = "a") -> bytes:
    """The head of a push of a whole blob, with further header lines."""
    first = f"POST /v2/{repository}/blobs/uploads/?digest={digest} HTTP/".encode() + version
    return b"\r\n".join((first, b"Host: a", *(line.removesuffix(b"\r\n") for line in lines))) + b"\r\n\r\n"


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
TE = b"Transfer-Encoding: "
CL = b"Content-Length: "

FRAMED_BADLY = {
    "a negative length": post(HELLO, CL + b"-5") + b"hello",
    "a signed length": post(HELLO, CL + b"+5") + b"hello",
    "a length of 2^64 and 5": post(HELLO, CL + b"18446744073709551621") + b"hello",
    "a length of 30 digits": post(HELLO, CL + b"9" * 30) + b"hello",
    "a length in hex": post(HELLO, CL + b"0x5") + b"hello",
    "a length with an underscore": post(HELLO, CL + b"0_5") + b"hello",
    "a length in other digits": post(HELLO, CL + "\u0665".encode()) + b"hello",
    "no length": post(HELLO, b"Content-Length:") + b"hello",
    "a list of lengths": post(HELLO, CL + b"5, 5") + b"hello",
    "two lengths": post(HELLO, CL + b"5", CL + b"6") + b"hello",
    "the same length twice": post(HELLO, CL + b"5", CL + b"5") + b"hello",
    "a length and chunks": post(HELLO, CL + b"5", TE + b"chunked") + CHUNKED,
    "chunks and a length": post(HELLO, TE + b"chunked", CL + b"5") + CHUNKED,
    "an unknown coding": post(HELLO, TE + b"xchunked") + CHUNKED,
    "chunks that are not last": post(HELLO, TE + b"chunked, identity") + CHUNKED,
    "chunks twice": post(HELLO, TE + b"chunked", TE + b"chunked") + CHUNKED,
    "a control character before the coding": post(HELLO, TE + b"\x0bchunked") + CHUNKED,
    "a space before the colon": post(HELLO, b"Transfer-Encoding : chunked") + CHUNKED,
    "a length on the next line": post(HELLO, b"Content-Length:", b" 5") + b"hello",
    "a bare CR": post(HELLO, b"X: a\rContent-Length: 5") + b"hello",
    "a NUL in a header": post(HELLO, b"X: a\0b", CL + b"5") + b"hello",
    "bare line feeds": post(HELLO, CL + b"5").replace(b"\r\n", b"\n") + b"hello",
    "two hosts": post(HELLO, b"Host: b", CL + b"5") + b"hello",
    "no host": post(HELLO, CL + b"5").replace(b"Host: a\r\n", b"") + b"hello",
    "HTTP/2's beginning": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version of the future": post(HELLO, CL + b"5", version=b"9.9") + b"hello",
}

CHUNKED_BADLY = {
    "a size in hex notation": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size of 18 digits": b"f" * 18 + b"\r\nhello\r\n0\r\n\r\n",
    "an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "line feeds alone": b"5\nhello\n0\n\n",
    "a line feed in an extension": b"5;a\n\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": b"3\r\nhello\r\n0\r\n\r\n",
    "a length in the trailer": b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
}


async def test_what_could_be_read_in_two_ways_is_read_in_none(site: Site, push: Pusher) -> None:
    """One answer, and then the end: whatever follows in the same bytes is not taken for a request."""
    chunked = {what: post(HELLO, TE + b"chunked") + body for what, body in CHUNKED_BADLY.items()}
    for what, request in (FRAMED_BADLY | chunked).items():
        async with wire(site.host_port) as connection:
            await connection.send(request + SMUGGLED)
            answer = await connection.answer()
            assert (what, answer.status) == (what, 400)
            await connection.ended()
    assert (await push.site_get("a", HELLO)).status == 404


async def test_lying_length_a_body_is_as_long_as_it_says(site: Site, push: Pusher) -> None:
    # `lo`, which is too much, begins no request
    async with wire(site.host_port) as connection:
        await connection.send(post(HELLO, CL + b"3") + b"hello" + SMUGGLED)
        assert (await connection.answer()).status == 400
        await connection.ended()
    for length in (b"6", b"5000000", b"50000000000", str(2**63 - 1).encode()):
        answer = await exchange(site.host_port, post(HELLO, CL + length) + b"hello")
        assert (length, answer.status, answer.code) == (length, 400, "SIZE_INVALID")
    assert (await push.site_get("a", HELLO)).status == 404
    assert (await exchange(site.host_port, post(HELLO, CL + b"5") + b"hello")).status == 201


async def test_large_body_that_stops_is_kept_as_far_as_it_came(site: Site, push: Pusher, tmp_path: Path) -> None:
    location = await push.open("a")
    head = f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n".encode()
    content = random.Random(3).randbytes(LARGE)
    part = 5_000_000
    answer = await exchange(site.host_port, head + content[:part])
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")
    assert (await push.state(location)).headers["Range"] == f"0-{part - 1}"
    # what follows a large body in the same bytes is no part of it
    answer = await exchange(
        site.host_port,
        f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Range: {part}-{LARGE - 1}\r\n"
        f"Content-Length: {LARGE - part}\r\n\r\n".encode()
        + content[part:]
        + SMUGGLED,
    )
    assert (answer.status, answer.headers["Range"]) == (202, f"0-{LARGE - 1}")
    assert (await push.finish(location, Digest.of(content))).status == 201
    assert await push.read("a", Digest.of(content)) == content


async def test_body_of_many_tiny_chunks(site: Site, push: Pusher) -> None:
    body = b"".join(b"2;x=y\r\n" + DATA[start : start + 2] + b"\r\n" for start in range(0, len(DATA), 2))
    trailer = b"0;x\r\nX-Trailer: a\r\nDigest: b\r\n\r\n"
    assert (await exchange(site.host_port, post(DIGEST, TE + b"Chunked") + body + trailer)).status == 201
    assert await push.read("a", DIGEST) == DATA


async def test_pipelined_pushes_are_answered_in_order(site: Site) -> None:
    pieces = [DATA[number * 1000 : (number + 1) * 1000] for number in range(40)]
    requests = [post(Digest.of(each), CL + b"1000", repository=f"r{n % 3}") + each for n, each in enumerate(pieces)]
    reads = [
        f"GET /v2/r{number % 3}/blobs/{Digest.of(each)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        for number, each in enumerate(pieces)
    ]
    async with wire(site.host_port) as connection:
        await connection.send(b"".join(requests + reads) + HEALTH)
        for number, each in enumerate(pieces):
            answer = await connection.answer()
            assert answer.status == 201
            assert answer.headers["Location"] == f"/v2/r{number % 3}/blobs/{Digest.of(each)}"
        for each in pieces:
            assert (await connection.answer()).body == each
        assert json.loads((await connection.answer()).body) == {"status": "ok"}


# Expect, versions


async def test_body_is_asked_for_when_it_is_wanted(site: Site, push: Pusher) -> None:
    length = CL + str(len(DATA)).encode()
    async with wire(site.host_port) as connection:
        await connection.send(post(DIGEST, length, EXPECT))
        assert (await connection.answer()).status == 100
        await connection.send(DATA)
        assert (await connection.answer()).status == 201
        put = b"PUT /v2/a/manifests/latest HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"
        body = await push.image("a", DATA)
        await connection.send(put + f"Content-Type: {MANIFEST}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert (await connection.answer()).status == 100
        await connection.send(body)
        assert (await connection.answer()).status == 201


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (post(DIGEST, CL + b"99999999", EXPECT, repository=NUMPY), 403),
        (post("sha256:abc", CL + b"99999999", EXPECT), 400),
        (post(DIGEST, CL + b"99999999", EXPECT, repository="A"), 400),
        (b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n" + EXPECT + b"\r\n", 413),
        (b"PUT /v2/a/manifests/-x HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n" + EXPECT + b"\r\n", 400),
        (b"PUT /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n" + EXPECT.replace(b"100", b"200") + b"\r\n", 417),
    ],
)
async def test_body_that_is_not_wanted_is_not_asked_for(site: Site, head: bytes, status: int) -> None:
    assert (await exchange(site.host_port, head)).status == status


async def test_other_expectations_change_nothing(site: Site) -> None:
    for line in (b"Expect: 200-maybe", b"Expect: ", b"Expect: \xff", b"Expect: 100-continue, 100-continue"):
        assert (await exchange(site.host_port, post(HELLO, CL + b"5", line) + b"hello")).status == 201
    assert (await exchange(site.host_port, post(HELLO, CL + b"5", EXPECT, version=b"1.0") + b"hello")).status == 201


async def test_http_1_0(site: Site, push: Pusher) -> None:
    """No chunks, no 100 Continue, and the end of the connection is the end of an answer."""
    body = await push.image("a", DATA)
    await push.manifest("a", "latest", body)
    for path, content in (
        ("/v2/", b"{}"),
        ("/v2/a/manifests/latest", body),
        (f"/v2/a/blobs/{DIGEST}", DATA),
        ("/v2/a/tags/list", b'{"name":"a","tags":["latest"]}'),
    ):
        for method in ("GET", "HEAD"):
            async with wire(site.host_port) as connection:
                await connection.send(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
                answer = await connection.answer(method)
                assert (answer.status, answer.body) == (200, content if method == "GET" else b"")
                assert answer.headers["Content-Length"] == str(len(content))
                await connection.ended()


async def test_a_build_is_waited_for_with_http_1_0(site: Site) -> None:
    async with wire(site.host_port) as connection:
        await connection.send(f"GET /v2/{ROOT}/slow/manifests/latest HTTP/1.0\r\n\r\n".encode())
        asked = asyncio.ensure_future(connection.answer())
        await site.started(f"{ROOT}/slow")
        await asyncio.sleep(0.4)
        image = await site.workshop.finish(f"{ROOT}/slow")
        answer = await asked
    assert answer.status == 200
    assert Digest.of(answer.body) == image.variants[0].digest
    assert "Transfer-Encoding" not in answer.headers


async def test_protocols_that_are_not_spoken(site: Site) -> None:
    """An upgrade is declined by answering as if it had not been asked for (RFC 9110, 7.8)."""
    for upgrade in (b"websocket", b"h2c", b"TLS/1.0"):
        lines = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade + b"\r\nHTTP2-Settings: AAMA\r\n"
        answer = await exchange(site.host_port, b"GET /v2/ HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
        assert (answer.status, answer.body) == (200, b"{}")
    assert (await exchange(site.host_port, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n")).status in (400, 404, 405)


# too much


async def test_heads_without_end(site: Site) -> None:
    path = b"GET /v2/a/tags/list"
    for head in (
        path + b"?" + b"n=1&" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        path + b"?n=" + b"1" * 4_000_000,
        path + b"/a" * 2_000_000,
        path + b" HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 4_000_000,
        path + b" HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        path + b" HTTP/1.1\r\nHost: a\r\n" + b"x" * 4_000_000,
        b"G" * 4_000_000,
        b"\r\n" * 2_000_000 + b"X",
    ):
        assert (await exchange(site.host_port, head)).status == 400
    assert (await exchange(site.host_port, HEALTH)).status == 200


async def test_queries_as_long_as_they_may_be(site: Site, push: Pusher) -> None:
    await push.image("a", DATA)
    await push.whole("a", b"hello", HELLO)
    for path, status in (
        ("/v2/a/tags/list?" + "n=1&" * 1900, 200),
        ("/v2/a/tags/list?" + "x&" * 3900, 200),
        ("/v2/a/tags/list?" + "%" * 3900, 200),
        ("/v2/a/tags/list?" + ";" * 7000, 200),
        (f"/v2/a/blobs/{HELLO}?" + "=&" * 3900, 200),
    ):
        answer = await exchange(site.host_port, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (path[:30], answer.status) == (path[:30], status)
    tags = "&".join("tag=a" for _ in range(1300))
    refused = await push.manifest("a", f"{HELLO}?{tags}", b"hello")
    assert (refused.status, refused.code) == (400, "TAG_INVALID")
    accept = b"Accept: " + b"application/x;q=nan," * 400 + b"\r\n"
    request = f"GET /v2/{NUMPY}/tags/list HTTP/1.1\r\nHost: a\r\n".encode() + accept * 100 + b"\r\n"
    assert (await exchange(site.host_port, request)).status == 200


async def test_slow_heads_are_dropped_and_harm_nobody(site: Site, push: Pusher) -> None:
    """Each connection sends a byte of a header every now and then, for ever."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(wire(site.host_port)) for _ in range(100)]
        for connection in connections:
            await connection.send(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        assert (await push.whole("a", DATA, DIGEST)).status == 201

        async def drip() -> None:
            while True:
                for connection in connections:
                    if not connection.writer.is_closing():
                        connection.writer.write(b"x")
                await asyncio.sleep(0.1)

        dripping = asyncio.ensure_future(drip())
        for connection in connections:
            await connection.ended()
        dripping.cancel()
        assert (await push.site_get("a", DIGEST)).status == 200


async def test_slow_bodies_are_dropped_and_harm_nobody(site: Site, push: Pusher, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(wire(site.host_port)) for _ in range(50)]
        for number, connection in enumerate(connections):
            length = LARGE if number % 2 else 1000
            await connection.send(post(DIGEST, CL + str(length).encode(), repository=f"slow{number}") + b"x")
        assert (await push.whole("a", DATA, DIGEST)).status == 201
        for connection in connections:
            answer = await connection.answer()
            assert (answer.status, answer.code) == (400, "SIZE_INVALID")
    while len(files := [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) > 1:
        await asyncio.sleep(0.05)
    assert [path.stat().st_size for path in files] == [len(DATA)]
    async with site.workshop.store.database.reading() as database:
        assert [row.name for row in await database.execute(tables.repository.select())] == ["a"]


async def test_connections_that_say_nothing(site: Site) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(wire(site.host_port)) for _ in range(100)]
        assert (await exchange(site.host_port, HEALTH.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n"))).status == 200
        for connection in connections:
            await connection.ended()


@pytest.mark.parametrize("line", [b"OPTIONS *", b"CONNECT a:80", b"GET http://h"])
async def test_what_asks_for_no_path_is_answered_and_logged_like_all_else(site: Site, line: bytes) -> None:
    answer = await exchange(site.host_port, line + b" HTTP/1.1\r\nHost: a\r\nX-Request-ID: odd\r\n\r\n")
    assert (answer.status, answer.headers["X-Request-ID"]) == (404, "odd")
    assert json.loads(answer.body)["code"] == "NOT_FOUND"
    while '"request":"odd"' not in site.log.getvalue():
        await asyncio.sleep(0.01)
