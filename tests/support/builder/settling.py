"""Waiting for what other tasks do at once."""

from __future__ import annotations

import asyncio


async def settle() -> None:
    """Let every task run until it waits for something that lasts."""
    for _ in range(10):
        await asyncio.sleep(0)
