"""What the host of a package answers: headers that make no sense, streams without an end. Each ends in a reason."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.channels import transfer
from builder.channels.channel import Credentials
from builder.channels.download import Downloader, DownloadSettings
from builder.channels.policy import ChannelPolicy
from builder.errors import DownloadFailed
from tests.support.builder.packages import Package

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "a number that is none": b"HTTP/1.1 503 No\r\nRetry-After: \xc2\xb2\r\nContent-Length: 0\r\n\r\n",
    "an open bracket": b"HTTP/1.1 302 Go\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "a bracket after a user": b"HTTP/1.1 302 Go\r\nLocation: http://u:p@[x/\r\nContent-Length: 0\r\n\r\n",
    "a port that is none": b"HTTP/1.1 302 Go\r\nLocation: http://1.2.3.4:999999/\r\nContent-Length: 0\r\n\r\n",
    "a long label": b"HTTP/1.1 302 Go\r\nLocation: http://" + b"a" * 300 + b".example/\r\nContent-Length: 0\r\n\r\n",
    "bytes in a host": b"HTTP/1.1 302 Go\r\nLocation: http://xn--\xff..b/\r\nContent-Length: 0\r\n\r\n",
    "bytes in a path": b"HTTP/1.1 302 Go\r\nLocation: /\xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "a long range": b"HTTP/1.1 206 Part\r\nContent-Range: bytes " + b"9" * 5000 + b"-\r\nContent-Length: 0\r\n\r\n",
    "a reason of bytes": b"HTTP/1.1 404 \xff\xfe\r\nContent-Length: 0\r\n\r\n",
}


@contextlib.asynccontextmanager
async def host(answer: bytes, endless: bytes = b"") -> AsyncIterator[str]:
    """The address of a server that gives one answer to whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            while endless:
                writer.write(endless)
                await writer.drain()
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def failure(tmp_path: Path, url: str, *, sized: bool = True) -> str:
    """Why a package of the host is not had."""
    record = Package("tool").conda(tmp_path / "channel").record
    record = replace(record, channel=url, url=f"{url}/linux-64/{record.file_name}", size=record.size if sized else None)
    settings = DownloadSettings(tmp_path / "archives", ChannelPolicy((url,)), 4, seconds=5, attempts=2, backoff=0.001)
    async with Downloader(settings, Credentials({})) as downloader:
        with pytest.raises(DownloadFailed) as caught:
            await downloader.fetch(record)
    return str(caught.value)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_headers_that_make_no_sense(tmp_path: Path, answer: bytes) -> None:
    async with host(answer) as url:
        assert "tool" in await failure(tmp_path, url)


async def test_a_package_of_no_size_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "UNSAID", 8 << 20)
    async with host(OK + b"\r\n", endless=bytes(1 << 16)) as url:
        assert "its channel's index gives no size" in await failure(tmp_path, url, sized=False)
    files = [path.stat().st_size for path in (tmp_path / "archives").iterdir()]
    assert sum(files) < 16 << 20
