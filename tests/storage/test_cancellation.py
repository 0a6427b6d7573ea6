"""Work that a cancellation does not leave half-done."""

from __future__ import annotations

import asyncio

import pytest

from storage.cancellation import to_end


async def test_results_and_errors_come_through() -> None:
    assert await to_end(asyncio.sleep(0, "done")) == "done"

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await to_end(fail())


@pytest.mark.parametrize("fails", [False, True])
async def test_whoever_is_cancelled_waits_for_the_end(fails: bool) -> None:
    begun, stopped, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await stopped.wait()
        ended.set()
        if fails:
            raise ZeroDivisionError

    waiter = asyncio.create_task(to_end(work(), stopped.set))
    await begun.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert ended.is_set()


async def test_impatience_does_not_help() -> None:
    end = asyncio.Event()
    waiter = asyncio.create_task(to_end(end.wait()))
    for _ in range(3):
        await asyncio.sleep(0)
        waiter.cancel()
    await asyncio.sleep(0)
    assert not waiter.done()
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def test_time_that_is_over_is_told_as_such() -> None:
    end = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await to_end(end.wait(), end.set)
