"""JSON documents over a stream: a length of four bytes, big-endian, then the document."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson

_LENGTH = 4

LARGEST = 4 << 20
"""Bytes of a document: it is read in the event loop. A lock of a thousand packages has one of them."""

OUT_OF_MEMORY = "memory allocation of "
"""Begins the line on stderr, Rust's own, with which a process ends that may not have more memory."""


def write_frame(document: Any) -> bytes:
    body = json.dumps(document, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Any | None:
    """The next document, or None when the other side is gone, even in the middle of one, or sends what is none.

    Too large a one is none.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
        if length > LARGEST:
            return None
        return orjson.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError, orjson.JSONDecodeError):
        return None
