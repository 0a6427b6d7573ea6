"""Work that is not left half-done when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def to_end(work: Awaitable[T], stop: Callable[[], object] = lambda: None) -> T:
    """`await work`, which is not cancelled: a caller that is learns of it when the work has ended.

    So what it clears away afterwards stays away: a thread cannot be cancelled, and a commit that was cancelled may
    still come about. `stop` is called at once, to make the end come sooner.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
            stop()
    if cancelled and not task.cancelled():
        task.exception()
        raise asyncio.CancelledError
    return task.result()
