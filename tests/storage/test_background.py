"""Work beside a block: it ends with the block, and a failure of it is told."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from storage.background import in_background


async def test_it_goes_on_while_the_block_runs_and_has_ended_after_it() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    with capture_logs() as lines:
        async with in_background(work()):
            await begun.wait()
            assert not ended.is_set()
        assert ended.is_set()
    assert lines == []


async def test_the_block_goes_on_when_it_fails_and_the_log_says_why() -> None:
    error = ZeroDivisionError("a defect")

    async def work() -> None:
        raise error

    with capture_logs() as lines:
        async with in_background(work()):
            while not lines:
                await asyncio.sleep(0)
    assert [(line["event"], line["exc_info"]) for line in lines] == [("background work failed", error)]


async def test_what_breaks_when_it_is_cut_off_is_not_told() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the connection is gone")

    with capture_logs() as lines:
        async with in_background(work()):
            await begun.wait()
    assert lines == []
