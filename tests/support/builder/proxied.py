"""Requests to the solver's proxy as raw text, and its answers."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import urlsplit

from builder.network.guarding_proxy import GuardingProxy


async def ask_proxy(
    proxy: GuardingProxy, line: str, *headers: str, secret: str | None = None, body: bytes = b""
) -> bytes:
    """The whole answer to a request with the proxy's secret, unless another is given."""
    parts = urlsplit(proxy.url)
    pair = f"{parts.username}:{parts.password if secret is None else secret}"
    own = f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write("\r\n".join([line, "Host: x", own, *headers, "", ""]).encode() + body)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0
