"""Blobs and their parts, from joins of memory and files, on both event loops and through TLS."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from registry.http.ranges import Span, matches, parse_range
from registry.http.settings import HttpSettings
from storage.blobs.joins import FragmentPart, Join, Layer
from storage.blobs.layers import LayerStore
from storage.digest import Digest
from storage.objects.files import FileObjects
from tests.support.registry.serving import NUMPY, Site, serving
from tests.support.storage.stores import put_layers


async def put_join(site: Site, *, fragments: int = 3, size: int = 700_000) -> tuple[Digest, bytes]:
    """A layer as the builder stores one: bytes, files, bytes."""
    source = random.Random(1)
    content = source.randbytes(5_000)
    parts: list[bytes | FragmentPart] = [content]
    for number in range(fragments):
        data = source.randbytes(size + number)
        path = site.workshop.store.blobs.fragment_path(f"{number:064x}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        parts.append(FragmentPart(f"{number:064x}", len(data)))
        content += data
    end = source.randbytes(30)
    parts.append(end)
    content += end
    digest = Digest.of(content)
    layer = Layer(f"{0:064x}", Join(digest, tuple(parts)), digest, len(content))
    await put_layers(LayerStore(site.workshop.store.blobs), layer)
    await site.workshop.link_blob(await site.workshop.store.blobs.find(digest))
    return digest, content


def path_of(digest: Digest) -> str:
    return f"/v2/{NUMPY}/blobs/{digest}"


RANGES = [
    (None, 200, slice(None)),
    ("bytes=0-", 206, slice(0, None)),
    ("bytes=0-0", 206, slice(0, 1)),
    ("bytes=4990-5010", 206, slice(4990, 5011)),
    ("bytes=5000-704999", 206, slice(5000, 705_000)),
    ("bytes=700000-1500000", 206, slice(700_000, 1_500_001)),
    ("bytes=-40", 206, slice(-40, None)),
    ("bytes=-99999999", 206, slice(None)),
    ("bytes=10-99999999999999999999999999", 206, slice(10, None)),
    ("bytes=0-1,5-6", 200, slice(None)),
    ("lines=1-2", 200, slice(None)),
    ("bytes=a-b", 200, slice(None)),
    ("bytes=-", 200, slice(None)),
    ("bytes=99999999-", 416, slice(0, 0)),
    ("bytes=99999999999999999999999999-", 416, slice(0, 0)),
    ("bytes=-0", 416, slice(0, 0)),
    ("bytes=9-3", 416, slice(0, 0)),
]


def test_joins_and_their_ranges(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            digest, content = await put_join(site)
            for header, status, part in RANGES:
                headers = {"Range": header} if header else {}
                async with site.request("GET", path_of(digest), headers=headers) as answer:
                    body = await answer.read()
                assert (header, answer.status) == (header, status)
                assert body == content[part]
                assert answer.headers["Docker-Content-Digest"] == digest
                assert answer.headers["Accept-Ranges"] == "bytes"
                assert answer.headers["Server"] == "condery"
                assert answer.headers["X-Request-ID"]
                if status == 206:
                    first, stop, _ = part.indices(len(content))
                    assert answer.headers["Content-Range"] == f"bytes {first}-{stop - 1}/{len(content)}"
                    assert answer.headers["Content-Length"] == str(stop - first)
                if status == 416:
                    assert answer.headers["Content-Range"] == f"bytes */{len(content)}"

    run(scenario())


def test_plain_file_is_sent_and_the_connection_is_used_again(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            content = random.Random(2).randbytes(9_000_000)
            digest = await site.workshop.put_blob(content)
            reader, writer = await asyncio.open_connection(*site.host_port, limit=1 << 20)
            request = f"GET {path_of(digest)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            writer.write(request * 3)
            for _ in range(3):
                headers = await reader.readuntil(b"\r\n\r\n")
                assert headers.startswith(b"HTTP/1.1 200 ")
                assert await reader.readexactly(len(content)) == content
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_many_at_once_with_slow_readers(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            digest, content = await put_join(site)

            async def fetch(pause: float) -> bytes:
                async with site.request("GET", path_of(digest)) as answer:
                    chunks = []
                    async for chunk in answer.content.iter_chunked(100_000):
                        chunks.append(chunk)
                        await asyncio.sleep(pause)
                    return b"".join(chunks)

            for body in await asyncio.gather(*(fetch(0.005 * (number % 2)) for number in range(12))):
                assert body == content

    run(scenario())


def test_cold_file_is_read_in_a_thread(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            content = random.Random(3).randbytes(3_000_000)
            digest = await site.workshop.put_blob(content)
            blobs = site.workshop.store.blobs
            assert isinstance(blobs.objects, FileObjects)
            with blobs.objects.path((await blobs.find(digest)).key or "").open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            async with site.request("GET", path_of(digest)) as answer:
                assert await answer.read() == content

    run(scenario())


def test_client_that_takes_nothing_is_dropped(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, HttpSettings(stall_seconds=0.2)) as site:
            digest = await site.workshop.put_blob(bytes(30_000_000))
            _, writer = await asyncio.open_connection(*site.host_port, limit=1024)
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport as well
            writer.write(f"GET {path_of(digest)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            while '"status":499' not in site.log.getvalue():
                await asyncio.sleep(0.02)
            writer.transport.abort()

    run(scenario())


def test_client_that_hangs_up_leaves_no_descriptor_open_and_no_traceback(
    run: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            digest = await site.workshop.put_blob(bytes(30_000_000))
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(5):
                reader, writer = await asyncio.open_connection(*site.host_port, limit=1024)
                writer.write(f"GET {path_of(digest)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                await reader.readexactly(1000)
                writer.transport.abort()
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.15)
            assert site.log.getvalue().count('"status":499') == 5

    run(scenario())
    assert caplog.records == []


def test_file_that_became_shorter_cuts_the_connection(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            digest, _ = await put_join(site)
            os.truncate(site.workshop.store.blobs.fragment_path(f"{1:064x}"), 1000)
            with pytest.raises(aiohttp.ClientError):
                async with site.request("GET", path_of(digest)) as answer:
                    await answer.read()
            async with site.request("GET", "/healthz") as answer:
                assert answer.status == 200

    run(scenario())


def test_tls_is_served_by_copying(run: Callable[..., None], tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cafile=certificate)

    async def scenario() -> None:
        async with serving(tmp_path) as site:
            digest, content = await put_join(site)
            secure = web.TCPSite(site.runner, "localhost", 0, ssl_context=server_context)
            await secure.start()
            port = next(address[1] for address in site.runner.addresses if str(address[1]) not in site.url)
            for header, part in ((None, slice(None)), ("bytes=4000-800000", slice(4000, 800_001))):
                headers = {"Range": header} if header else {}
                url = f"https://localhost:{port}{path_of(digest)}"
                async with site.client.get(url, ssl=client_context, headers=headers) as answer:
                    assert await answer.read() == content[part]

    run(scenario())


async def test_conditions(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        digest = await site.workshop.put_blob(b"0123456789")
        etag = f'"{digest}"'
        for headers, status, body in (
            ({"If-None-Match": etag}, 304, b""),
            ({"If-None-Match": f"W/{etag}"}, 304, b""),
            ({"If-None-Match": '"x"'}, 200, b"0123456789"),
            ({"If-Range": etag, "Range": "bytes=2-3"}, 206, b"23"),
            ({"If-Range": '"x"', "Range": "bytes=2-3"}, 200, b"0123456789"),
            ({"If-Range": f"W/{etag}", "Range": "bytes=2-3"}, 200, b"0123456789"),
            ({"If-Range": "Wed, 21 Oct 2015 07:28:00 GMT", "Range": "bytes=2-3"}, 200, b"0123456789"),
        ):
            async with site.request("GET", path_of(digest), headers=headers) as answer:
                assert (headers, answer.status, await answer.read()) == (headers, status, body)
        async with site.request("HEAD", path_of(digest), headers={"Range": "bytes=2-3"}) as answer:
            assert (answer.status, answer.headers["Content-Length"], await answer.read()) == (200, "10", b"")


async def test_empty_blob(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        digest = await site.workshop.put_blob(b"")
        for headers, status in (({}, 200), ({"Range": "bytes=0-"}, 416), ({"Range": "bytes=-5"}, 416)):
            async with site.request("GET", path_of(digest), headers=headers) as answer:
                assert (answer.status, await answer.read()) == (status, b"")


@given(st.integers(0, 40), st.one_of(st.none(), st.integers(0, 50)), st.one_of(st.none(), st.integers(0, 50)))
def test_range_is_the_slice_it_names(size: int, first: int | None, last: int | None) -> None:
    content = bytes(range(size))
    found = parse_range(f"bytes={'' if first is None else first}-{'' if last is None else last}", size)
    if first is None and last is None:
        wanted = content
    elif first is None:
        wanted = content[max(size - (last or 0), 0) :]
    else:
        wanted = content[first : None if last is None else last + 1]
    if found == "unsatisfiable":
        assert wanted == b""
    else:
        span = Span(0, size) if found == "whole" else found
        assert content[span.start : span.stop] == wanted
        assert found == "whole" or 0 <= span.start < span.stop <= size


@given(st.text(max_size=40), st.integers(0, 10**6))
def test_any_range_header_is_understood(header: str, size: int) -> None:
    parse_range(header, size)
    parse_range("bytes=" + header, size)
    matches(header, '"x"')
