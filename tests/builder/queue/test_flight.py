"""A build's end, as those who wait for it in one process get it."""

from __future__ import annotations

import traceback

import pytest

from builder.errors import BuildFailed
from builder.queue.flight import Flight
from builder.work.claims import Claim
from tests.builder.queue.engines import job


async def test_everybody_who_waits_has_an_error_of_their_own() -> None:
    flight = Flight(job("numpy"), Claim())
    flight.end(BuildFailed("build", "SolveFailed", "nothing provides it"))
    caught = list[BuildFailed]()
    for _ in range(3):
        with pytest.raises(BuildFailed, match="nothing provides it") as each:
            await flight.wait(None)
        caught.append(each.value)
    assert len({id(each) for each in caught}) == 3
    assert {each.build_id for each in caught} == {"build"}
    assert len({len(traceback.extract_tb(each.__traceback__)) for each in caught}) == 1
