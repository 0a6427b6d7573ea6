"""How often a lane looks for the next turn, which takes time for each claim that waits."""

from __future__ import annotations

import contextlib
import math

import pytest

from builder.work import turns
from builder.work.claims import Caller, Claim
from builder.work.turns import Lane, Slots
from tests.support.builder.settling import settle
from tests.support.builder.track import Track, of


async def test_whoever_waits_is_looked_at_once_for_all_that_happens_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts of many builds wait in a line that anybody can make longer, and somebody joins or leaves each."""
    ranked = 0
    rank = Slots.rank

    def count(slots: Slots, caller: Caller, claim: Claim) -> tuple[int, bool, int, int, int]:
        nonlocal ranked
        ranked += 1
        return rank(slots, caller, claim)

    monkeypatch.setattr(Slots, "rank", count)
    lane = Lane(2, extra=1)
    track = Track(lane)
    builds = [Claim(Caller(f"203.0.113.{number}"), lasting=True) for number in range(20)]
    parts = [build.make_part() for build in builds for _ in range(10)]
    with contextlib.ExitStack() as stack:
        for part, build in zip(parts, [build for build in builds for _ in range(10)], strict=True):
            stack.enter_context(part.joined(build))
        for number, part in enumerate(parts):
            await track.begin(str(number), part)
        assert ranked < 20 * len(parts), "the lane is full, and nobody who waits is signed in"
        ranked = 0
        for build in builds:
            with build.waited_for(Caller("198.51.100.1")):
                pass
        await settle()
        assert ranked <= 2 * len(parts), "one look for all who came"
        ranked = 0
        await track.end("0")
        assert 0 < ranked <= 4 * len(parts)


async def test_the_event_loop_has_most_of_its_time_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a look that took long, the next one waits for a multiple of that time."""
    monkeypatch.setattr(turns, "NOTICED", 0.0)
    monkeypatch.setattr(turns, "RESTS", 1e9)
    track = Track(Lane(1))
    await track.begin("first", of("a"))
    await track.begin("second", of("b"))
    await track.begin("third", of("c"))
    await track.end("first")
    assert track.running == [], "it rests"
    monkeypatch.setattr(turns, "NOTICED", math.inf)
    track = Track(Lane(1))
    for name in ("first", "second"):
        await track.begin(name, of(name))
    await track.end("first")
    assert track.running == ["second"]
