"""Work that runs to its end even if its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def to_end(work: Awaitable[T], stop: Callable[[], object] = lambda: None) -> T:
    """Await `work` without cancelling it: a caller that is cancelled gets CancelledError once the work has ended.

    A thread cannot be cancelled, and a cancelled commit may still take effect. So a caller that cleans up has to wait
    for the end first. On cancellation `stop` is called at once, to bring that end sooner.
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
