"""JSON documents over a stream: a length in four big-endian bytes, then the document."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson

_LENGTH = 4

LARGEST = 4 << 20
"""Bytes of the largest document, which is parsed in the event loop. A lock of a thousand packages has a quarter of
that."""

OUT_OF_MEMORY = "memory allocation of "
"""The start of the line on stderr, Rust's own, with which a process ends that reaches its memory limit."""


def write_frame(document: Any) -> bytes:
    body = json.dumps(document, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Any | None:
    """Read the next document. Returns None if the other side is gone, even within a document, or sends no valid one.

    A document that is too large counts as invalid.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
        if length > LARGEST:
            return None
        return orjson.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError, orjson.JSONDecodeError):
        return None
