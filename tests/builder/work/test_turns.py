"""Whose turn it is: rules that hold whatever comes, and turns that are given back whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.work import claims
from builder.work.claims import Caller, Claim, on_behalf_of
from builder.work.single_flight import SingleFlight
from builder.work.turns import GaveWay, Lane, Line, Slots, Turn
from builder.work.usage import Usage
from tests.support.builder.settling import settle
from tests.support.builder.track import Track, of

CALLERS = [*(Caller(name) for name in "abcd"), Caller("a", signed_in=True), Caller("b", signed_in=True)]
STEPS = st.lists(st.tuples(st.sampled_from(["ask", "leave", "end"]), st.integers(0, 5), st.booleans()), max_size=80)


@given(STEPS, st.integers(1, 6), st.integers(1, 6), st.integers(0, 2))
def test_shares_and_the_order_hold_whatever_comes(
    steps: list[tuple[str, int, bool]], count: int, share: int, extra: int
) -> None:
    slots = Slots(count, min(share, count), extra=extra)
    line, waiting, running = Line(slots), list[Turn](), list[Turn]()
    for step, number, wanted in steps:
        if step == "ask":
            waiting.append(Turn(Claim(CALLERS[number], lasting=wanted)))
            line.add(waiting[-1])
        elif step == "leave" and waiting:
            line.remove(waiting.pop(number % len(waiting)))
        elif running:
            slots.give_back(running.pop(number % len(running)))
        while True:
            before = Counter(turn.caller for turn in running)
            sides = Counter(turn.caller.signed_in for turn in running)
            able = [turn for turn in waiting if may_begin(turn.claim.first, slots, running)]
            begun = line.next()
            if begun is None:
                assert not able
                break

            def order(turn: Turn, before: Counter[Caller] = before, sides: Counter[bool] = sides) -> object:
                first = turn.claim.first
                return not turn.claim.list_waiting(), sides[first.signed_in], not first.signed_in, before[first]

            expected = min(able, key=order)  # type: ignore[arg-type]  # tuples of one shape
            assert begun is expected, "of equals, the first"
            waiting.remove(begun)
            running.append(begun)
        assert len(line) == len(waiting)
        assert slots.taken == len(running) <= count + extra
        assert sum(not turn.caller.signed_in for turn in running) <= count
        assert slots.of_caller == Counter(turn.caller for turn in running)
        assert max(slots.of_caller.values(), default=0) <= slots.share


def may_begin(caller: Caller, slots: Slots, running: list[Turn]) -> bool:
    own = sum(turn.caller == caller for turn in running)
    if len(running) >= slots.count:
        return caller.signed_in and not own and len(running) < slots.count + slots.extra
    if caller.signed_in or not slots.reserves:
        return own < slots.share
    others = sum(not turn.caller.signed_in for turn in running)
    return others < slots.count - slots.count // 4 and own < max(1, slots.share - slots.count // 4)


async def test_the_one_wish_of_another_is_next() -> None:
    track = Track(Lane(1))
    for number in range(50):
        await track.begin(f"mine{number}", of("many"))
    await track.begin("yours", of("one"))
    await track.end("mine0")
    assert track.running in (["mine1"], ["yours"])
    track = Track(Lane(4, kept=1))
    for number in range(50):
        await track.begin(f"mine{number}", of("many"))
    assert len(track.running) == 3
    await track.begin("yours", of("one"))
    assert track.running[-1] == "yours"


@pytest.mark.parametrize("count", [1, 4])
async def test_a_flood_from_many_addresses_does_not_delay_who_is_signed_in(count: int) -> None:
    """Theirs is the next turn there is, whoever came before and whatever they have had already."""
    had = Usage()
    track = Track(Lane(count, usage=had))
    had.add(Caller("ann", signed_in=True), 1000)
    for number in range(200):
        await track.begin(f"flood{number}", of(f"203.0.113.{number}"))
    await track.begin("ann", of("ann", signed_in=True))
    await track.end("flood0")
    assert track.running[-1] == "ann"
    await track.end("ann")
    await track.begin("ann again", of("ann", signed_in=True))
    if count == 1:
        await track.end(track.running[0])
    assert track.running[-1] == "ann again", "with four slots one is kept for them now"


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_whoever_is_signed_in_need_not_wait_for_others_to_end(count: int) -> None:
    """Though nobody was kept a slot, as nobody had signed in yet or there are too few."""
    track = Track(Lane(count, extra=1))
    for number in range(20):
        await track.begin(f"flood{number}", of(f"203.0.113.{number}"))
    await track.begin("ann", of("ann", signed_in=True))
    assert track.running[count:] == ["ann"]
    for number in range(20):
        await track.begin(f"ann{number}", of("ann", signed_in=True))
    await track.begin("bob", of("bob", signed_in=True))
    assert track.running[count:] == ["ann"], "there is one for all of them"
    await track.end("ann")
    assert track.running[count:] == ["ann0"]


async def test_whoever_is_signed_in_need_not_wait_for_another_who_has_all() -> None:
    track = Track(Lane(2, extra=1))
    for number in range(5):
        await track.begin(f"mallory{number}", of("mallory", signed_in=True))
    await track.begin("ann", of("ann", signed_in=True))
    assert track.running == ["mallory0", "mallory1", "ann"]


async def test_extra_slots_are_only_for_who_is_signed_in() -> None:
    track = Track(Lane(2, extra=1))
    for number in range(5):
        await track.begin(f"ann{number}", of("ann", signed_in=True))
    assert len(track.running) == 2, "with the others unused, the lane has as many slots as it says"
    await track.begin("flood", of("203.0.113.1"))
    assert "flood" not in track.running


async def test_who_is_not_signed_in_has_a_share_too() -> None:
    track = Track(Lane(4))
    for number in range(50):
        await track.begin(f"ann{number}", of("ann", signed_in=True))
    for number in range(50):
        await track.begin(f"flood{number}", of(f"203.0.113.{number}"))
    for _ in range(8):
        await track.end(track.running[0])
    assert sum(name.startswith("flood") for name in track.running) == 2
    # a name that is an address is not the address
    assert of("a", signed_in=True).first != of("a").first


async def test_the_part_that_is_kept_is_used_again_once_a_signed_in_build_is_done() -> None:
    track = Track(Lane(8, kept=2))
    await track.begin("ann", of("ann", signed_in=True))
    for number in range(20):
        await track.begin(f"flood{number}", of(f"203.0.113.{number // 10}"))
    assert len(track.running) == 1 + 6, "all others together leave a quarter"
    await track.end("ann")
    assert len(track.running) == 6
    lane = Track(Lane(8, kept=2))
    for number in range(20):
        await lane.begin(f"flood{number}", of(f"203.0.113.{number // 10}"))
    assert len(lane.running) == 8, "where nobody signs in nothing is kept"


async def test_who_is_signed_in_and_joins_lends_their_place() -> None:
    """What a stranger asked for first waits in the place of whoever is signed in and wants it as well."""
    track, wanted = Track(Lane(1)), of("203.0.113.99")
    for number in range(50):
        await track.begin(f"flood{number}", of(f"203.0.113.{number}"))
    await track.begin("wanted", wanted)
    with wanted.waited_for(Caller("ann", signed_in=True)):
        await track.end("flood0")
    assert track.running == ["wanted"]


async def test_who_gives_way_to_whom_is_a_matter_of_sides_first() -> None:
    """One long turn each of strangers: the first of somebody who is signed in begins at once all the same."""
    track = Track(Lane(2, patience=0.02))
    for number in range(2):
        await track.begin(f"flood{number}", of(f"203.0.113.{number}"), interruptible_after=3600)
    await track.begin("ann0", of("ann", signed_in=True), interruptible_after=3600)
    await asyncio.sleep(0.05)
    assert len(track.gave_way) == 1
    assert "ann0" in track.running
    await track.begin("ann1", of("ann", signed_in=True), interruptible_after=3600)
    assert len(track.gave_way) == 1, "both sides have one now"
    for name in track.tasks:
        track.ends[name].set()
    await asyncio.gather(*track.tasks.values())
    assert track.lane.taken == track.lane.waiting == 0


async def test_whoever_has_had_much_goes_after_whoever_has_not() -> None:
    """Also where there is one slot, and by what was had in other lanes of the same usage."""
    now = 0.0
    had = Usage(lambda: now)
    track = Track(Lane(1, usage=had))
    had.add(Caller("many"), 3)
    for name, claim in {"running": of("x"), "many1": of("many"), "many2": of("many"), "one": of("one")}.items():
        await track.begin(name, claim)
    await track.end("running")
    assert track.running == ["one"], "it came last, and has had nothing"
    await track.end("one")
    assert track.running == ["many1"]
    await track.begin("one again", of("one"))
    had.add(Caller("one"), 0.9)
    await track.end("many1")
    assert track.running == ["one again"], "below a second all are equal"
    await track.begin("new", of("new"))
    now = 3600
    await track.end("one again")
    assert track.running == ["many2"], "what was had is forgotten, and of equals the first is next"
    await track.end("many2")
    await track.end("new")
    assert track.lane.taken == track.lane.waiting == 0


async def test_turns_are_counted_for_whoever_had_them() -> None:
    had = Usage()
    track = Track(Lane(1, usage=had))
    had.add(Caller("a"), 0.97)
    await track.begin("first", of("a"))
    await track.begin("never", of("b"))
    await asyncio.sleep(0.1)
    track.tasks["never"].cancel()
    await track.end("first")
    assert (had.of(Caller("a")), had.of(Caller("b"))) == (1, 0)


async def test_a_build_with_much_to_do_does_not_go_before_another_of_the_same_caller() -> None:
    track, large, small = Track(Lane(2)), of("a"), of("a")
    for number in range(20):
        await track.begin(f"large{number}", large.make_part() if number % 2 else large)
    await track.begin("small", small)
    await track.end("large0")
    assert track.running == ["large1", "small"]


async def test_what_nobody_waits_for_any_more_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    track, abandoned = Track(Lane(1)), Claim(Caller("a"))
    await track.begin("running", of("b"))
    with abandoned.waited_for(Caller("a")):
        await track.begin("abandoned", abandoned)
    await track.begin("wanted", of("b"))
    monkeypatch.setattr(claims, "GRACE_SECONDS", 0)
    await track.end("running")
    assert track.running == ["wanted"]
    await track.end("wanted")
    assert track.running == ["abandoned"], "it goes on all the same"


async def test_whoever_joins_does_not_wait_in_the_place_of_another() -> None:
    track, flights = Track(Lane(2, kept=1)), SingleFlight[str, None]()

    async def work(name: str) -> None:
        async with track.lane.turn():
            track.running.append(name)
            await asyncio.sleep(3600)

    tasks = []
    with on_behalf_of(of("many")):
        tasks += [asyncio.create_task(flights.do(name, lambda name=name: work(name))) for name in "abcdef"]  # type: ignore[misc]  # the lambda's default
    await settle()
    assert track.running == ["a"]
    with on_behalf_of(of("one")):
        tasks.append(asyncio.create_task(flights.do("f", lambda: work("f"))))
    await settle()
    tasks[1].cancel()
    with on_behalf_of(of("one")), contextlib.suppress(TimeoutError):
        await asyncio.wait_for(track.lane.turn().__aenter__(), 0.05)
    assert track.running == ["a", "f"]
    await flights.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_lasts_goes_on_in_a_long_slot() -> None:
    track = Track(Lane(1, long=1, patience=0.02))
    await track.begin("long", of("a"))
    await track.begin("quick", of("b"))
    assert track.running == ["long"]
    await asyncio.sleep(0.05)
    assert track.running == ["long", "quick"]
    await track.begin("third", of("c"))
    await asyncio.sleep(0.05)
    assert track.running == ["long", "quick"], "there is one long slot, and it is taken"
    await track.end("long")
    assert track.running == ["quick", "third"]
    await track.end("quick")
    await track.end("third")
    assert track.lane.taken == track.lane.waiting == 0


async def test_turns_in_long_slots_count_as_well() -> None:
    """Or the next turn would be of whoever has just moved to a long one, as long as there are any."""
    track = Track(Lane(2, long=20, patience=0.02))
    for number in range(10):
        for name in "ab":
            await track.begin(f"{name}{number}", of(name))
    await track.begin("yours", of("c"))
    await asyncio.sleep(0.2)
    assert set(track.running[:2]) == {"a0", "b0"}
    assert track.running[2] == "yours"
    for name in track.tasks:
        track.ends[name].set()
    await asyncio.gather(*track.tasks.values())
    assert track.lane.taken == track.lane.waiting == 0


async def test_whoever_has_several_gives_way_at_once_to_whoever_has_none() -> None:
    track = Track(Lane(2, long=2, patience=0.02))
    for number in range(4):
        await track.begin(f"a{number}", of("a"), interruptible_after=3600)
        await asyncio.sleep(0.03)
    assert len(track.running) == 4
    await track.begin("a4", of("a"), interruptible_after=3600)
    await track.begin("b", of("b"), interruptible_after=3600)
    assert len(track.gave_way) == 1
    assert track.running[-1] == "b"
    await asyncio.sleep(0.05)
    await track.begin("c", of("c"))
    assert len(track.gave_way) == 2
    assert track.running[-1] == "c"
    await asyncio.sleep(0.05)
    await track.begin("d", of("d"))
    assert len(track.gave_way) == 2, "the one that b has is its only one"
    for name in track.tasks:
        track.ends[name].set()
    await asyncio.gather(*track.tasks.values())
    assert track.lane.taken == track.lane.waiting == 0


async def test_what_lasts_and_can_be_interrupted_gives_way_when_others_wait() -> None:
    track = Track(Lane(1, patience=0.02))
    await track.begin("hung", of("a"), interruptible_after=0)
    await asyncio.sleep(0.05)
    assert track.running == ["hung"], "nobody else waits"
    await track.begin("quick", of("b"))
    assert (track.running, track.gave_way) == (["quick"], ["hung"])
    await track.end("quick")
    assert track.lane.taken == track.lane.waiting == 0


async def test_nobody_gives_way_to_who_cannot_begin() -> None:
    track = Track(Lane(3, kept=1, patience=0.02))
    for name in ("first", "second"):
        await track.begin(name, of("a"))
    await track.begin("hung", of("b"), interruptible_after=0)
    await asyncio.sleep(0.05)
    await track.begin("third", of("a"))
    assert (track.running, track.gave_way) == (["first", "second", "hung"], []), "a has its share"
    await track.begin("quick", of("c"))
    assert track.gave_way == ["hung"]
    for name in ("first", "second", "quick", "third"):
        await track.end(name)
    assert track.lane.taken == track.lane.waiting == 0


async def test_one_who_waits_makes_one_give_way() -> None:
    track, released = Track(Lane(3, patience=0.02)), asyncio.Event()

    async def hang() -> None:
        async with track.lane.turn(interruptible_after=0):
            try:
                await asyncio.sleep(3600)
            finally:
                # a connection takes a moment to close
                await released.wait()

    tasks = []
    for name in "abc":
        with on_behalf_of(of(name)):
            tasks.append(asyncio.create_task(hang()))
    await asyncio.sleep(0.05)
    wanted = of("d")
    await track.begin("quick", wanted)
    for _ in range(3):
        with wanted.waited_for(Caller("e")):
            await settle()
    released.set()
    await settle()
    assert track.running == ["quick"]
    assert [task.done() for task in tasks].count(True) == 1
    for task in tasks:
        task.cancel()
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)].count(GaveWay) == 1
    await track.end("quick")
    assert track.lane.taken == track.lane.waiting == 0


async def test_a_turn_is_kept_for_the_seconds_that_it_asks_for() -> None:
    track = Track(Lane(1, patience=0.02))
    await track.begin("whole", of("a"), interruptible_after=0.3)
    await track.begin("quick", of("b"))
    await asyncio.sleep(0.1)
    assert (track.running, track.gave_way) == (["whole"], [])
    await asyncio.sleep(0.3)
    assert (track.running, track.gave_way) == (["quick"], ["whole"])
    await track.end("quick")


async def test_cancelled_wishes_leave_nothing_behind() -> None:
    track = Track(Lane(2, long=1, patience=0.01))
    for number in range(10):
        await track.begin(str(number), of(str(number % 3)))
    await asyncio.sleep(0.03)
    for task in track.tasks.values():
        task.cancel()
    await asyncio.gather(*track.tasks.values(), return_exceptions=True)
    assert track.lane.taken == track.lane.waiting == 0
    await track.begin("next", of("a"))
    assert track.running == ["next"]
    await track.end("next")


async def test_what_becomes_urgent_is_next() -> None:
    lane, order, release = Lane(1), list[str](), asyncio.Event()
    claims = {name: Claim(Caller(name), lasting=True) for name in "abc"}

    async def work(name: str) -> None:
        with on_behalf_of(claims[name]):
            async with lane.turn():
                order.append(name)
                await release.wait()

    tasks = []
    for name in claims:
        tasks.append(asyncio.create_task(work(name)))
        await asyncio.sleep(0)
    claims["c"].set_priority(1)
    release.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "c", "b"]
