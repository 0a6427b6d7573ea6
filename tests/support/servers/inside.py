"""An internal server that nobody may be sent to, and channels that try to send somebody there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgpack
import zstandard
from rattler.index import index_fs

from tests.support.builder.packages import Made, Package
from tests.support.servers.channel_server import ChannelServer, Fault

STATUS = 418
"""Its answer, which must not be revealed."""


@dataclass
class Inside:
    """Counts connections to `port` of 127.0.0.1 and, if there is IPv6, of ::1."""

    port: int = 0
    connections: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(str(writer.get_extra_info("sockname")[0]))
        with contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {STATUS} Secret\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def inside() -> AsyncIterator[Inside]:
    found = Inside()
    async with contextlib.AsyncExitStack() as stack:
        for host in ("127.0.0.1", "::1"):
            with contextlib.suppress(OSError):
                server = await asyncio.start_server(found.answer, host, found.port)
                found.port = server.sockets[0].getsockname()[1]
                stack.callback(server.close)
        yield found


TARGETS = (
    "http://127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "https://localhost:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "https://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0.0.0.0:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "file:///etc/passwd/",
)


@dataclass(frozen=True)
class Channel:
    """A served channel with one package, `app`; its references can be changed."""

    server: ChannelServer
    made: Made

    @property
    def directory(self) -> Path:
        return self.server.directory

    @property
    def url(self) -> str:
        return self.server.url

    def redirect(self, path: str, target: str) -> None:
        self.server.faults.insert(0, Fault(path, 999, redirect=target))

    def rewrite_shards(self, **info: str) -> None:
        """Set `base_url` and `shards_base_url` in the index of shards."""
        for path in self.directory.glob("*/repodata_shards.msgpack.zst"):
            document: Any = msgpack.unpackb(zstandard.decompress(path.read_bytes(), max_output_size=1 << 20))
            document["info"] |= info
            path.write_bytes(zstandard.compress(msgpack.packb(document)))

    def rewrite_repodata(self, base_url: str) -> None:
        """Set `info.base_url` in repodata.json, and remove all other forms of the index."""
        for path in self.directory.glob("*/repodata*.zst"):
            path.unlink()
        for path in self.directory.glob("*/repodata.json"):
            document = json.loads(path.read_bytes())
            document.setdefault("info", {})["base_url"] = base_url
            document["repodata_version"] = 2
            path.write_text(json.dumps(document))


@contextlib.asynccontextmanager
async def channel(directory: Path) -> AsyncIterator[Channel]:
    made = Package("app", noarch="generic", files={"share/app": b"app"}).conda(directory)
    (directory / "linux-64").mkdir(exist_ok=True)
    await index_fs(directory, write_zst=True, write_shards=True)
    async with ChannelServer(directory) as server:
        url = f"{server.url}/noarch/{made.record.file_name}"
        yield Channel(server, replace(made, record=replace(made.record, channel=server.url, url=url)))
