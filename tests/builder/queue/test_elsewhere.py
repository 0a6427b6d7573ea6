"""Who waits in another process than the one that works on a build counts there, by the build's row."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from builder.queue.flight import Flight
from builder.queue.following import FollowedBuild
from builder.queue.protocol import BuildQueue
from builder.work.claims import OURSELVES, Caller
from storage.catalog.builds import WAITING_SECONDS, Builds
from storage.database import tables
from storage.errors import StorageUnavailable
from tests.builder.queue.engines import SOON, Engines, Work, completed, job, until

ANN = Caller("ann", signed_in=True)
FLOOD = [Caller(f"203.0.113.{number}") for number in range(12)]
WANTED = 8


async def flood(queue: BuildQueue, work: Work) -> list[Flight]:
    """A build for each stranger; the first has the one slot."""
    submitted = [await queue.submit(job(f"flood{number}"), caller) for number, caller in enumerate(FLOOD)]
    await until(lambda: work.waiting == len(FLOOD) - 1)
    assert all(isinstance(each, Flight) for each in submitted)
    return [each for each in submitted if isinstance(each, Flight)]


async def wait_for_all(flights: list[Flight]) -> list[asyncio.Task[object]]:
    """The strangers, each of whom waits."""
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(each.wait(SOON, caller)) for each, caller in zip(flights, FLOOD, strict=True)
    ]
    await asyncio.sleep(0)
    return tasks


async def test_flood_of_names_one_is_lifted_by_who_is_signed_in_at_the_same_process(engines: Engines) -> None:
    work = Work(slots=1)
    queue = engines.open(work)
    flights = await flood(queue, work)
    strangers = await wait_for_all(flights)
    joined = await queue.submit(job(f"flood{WANTED}"), ANN)
    waiting = asyncio.create_task(joined.wait(SOON, ANN))
    await asyncio.sleep(0)
    work.release.set()
    await asyncio.gather(waiting, *strangers)
    assert work.begun[1] == f"flood{WANTED}", "after whichever of them came first"


async def test_flood_of_names_one_is_lifted_by_who_is_signed_in_at_another_process(engines: Engines) -> None:
    work, idle = Work(slots=1), Work()
    flights = await flood(engines.open(work), work)
    strangers = await wait_for_all(flights)
    joined = await engines.open(idle).submit(job(f"flood{WANTED}"), ANN)
    assert joined.id == flights[WANTED].id
    waiting = asyncio.create_task(joined.wait(SOON, ANN))
    await until(lambda: ANN in flights[WANTED].claim.list_waiting())
    # nobody else is lifted
    assert not any(ANN in each.claim.list_waiting() for each in flights if each is not flights[WANTED])
    work.release.set()
    await asyncio.gather(waiting, *strangers)
    assert work.begun[1] == f"flood{WANTED}", "after whichever of them came first"
    assert idle.begun == []


@pytest.mark.parametrize("caller", [ANN, FLOOD[0]])
async def test_who_follows_a_build_counts_where_it_is_made(engines: Engines, caller: Caller) -> None:
    work = Work(slots=1)
    flights = await flood(engines.open(work), work)
    followed = await engines.open(Work()).follow(flights[WANTED].id)
    assert isinstance(followed, FollowedBuild)
    waiting = asyncio.create_task(followed.wait(SOON, caller))
    counted = caller if caller.signed_in else OURSELVES
    await until(lambda: counted in flights[WANTED].claim.list_waiting())
    assert not any(counted in each.claim.list_waiting() for each in flights if each is not flights[WANTED])
    work.release.set()
    assert await waiting is not None
    await asyncio.gather(*map(completed, flights))
    assert work.begun[1] == f"flood{WANTED}", "after whichever of them came first"


async def test_a_flood_in_one_process_takes_no_turn_of_another(engines: Engines) -> None:
    work, other = Work(slots=1), Work(slots=1, released=True)
    flights = await flood(engines.open(work), work)
    await completed(await engines.open(other).submit(job("anns"), ANN))
    assert other.begun == ["anns"]
    assert work.begun == ["flood0"]
    work.release.set()
    await asyncio.gather(*map(completed, flights))


async def test_a_stranger_elsewhere_waits_as_a_stranger(engines: Engines) -> None:
    """What he waits for comes before what nobody waits for, and after what somebody signed in does."""
    work = Work(slots=1)
    queue, other = engines.open(work), engines.open(Work())
    flights = await flood(queue, work)
    anns = await queue.submit(job("anns"), ANN)
    joined = await other.submit(job(f"flood{WANTED}"), FLOOD[0])
    waiting = [asyncio.create_task(joined.wait(SOON, FLOOD[0])), asyncio.create_task(anns.wait(SOON, ANN))]
    await until(lambda: OURSELVES in flights[WANTED].claim.list_waiting())
    work.release.set()
    await asyncio.gather(*waiting)
    await asyncio.gather(*map(completed, flights))
    assert work.begun[1:3] == ["anns", f"flood{WANTED}"]


async def test_nobody_takes_the_place_of_somebody_signed_in(builds: Builds) -> None:
    for name in ("a", "b", "c"):
        await builds.begin(name, name, {}, "us")
    await builds.note_waiting({"a": "ann", "b": "", "unknown": "ann"})
    await builds.note_waiting({"a": "", "b": "bob"})

    async def waiters() -> dict[str, str | None]:
        return {each: wanted.waiter for each, wanted in (await builds.beat("us", ["a", "b", "c"])).items()}

    assert await waiters() == {"a": "ann", "b": "bob", "c": None}
    # silent for too long, or told by a clock that was wrong
    for seconds in (-WAITING_SECONDS - 1, 3600):
        async with builds._database.writing() as connection:
            await connection.execute(update(tables.build).values(waited=tables.build.c.waited + seconds))
        assert await waiters() == {"a": None, "b": None, "c": None}
    await builds.note_waiting({"a": ""})
    await builds.complete("b", "made")
    await builds.note_waiting({"b": "ann"})
    assert await waiters() == {"a": "", "c": None}
    ended = await builds.find("b")
    assert ended is not None
    assert ended.waiter == "bob"


async def test_who_goes_away_is_told_of_no_more(engines: Engines) -> None:
    work, idle = Work(slots=1), Work()
    flights = await flood(engines.open(work), work)
    joined = await engines.open(idle).submit(job(f"flood{WANTED}"), ANN)
    assert isinstance(joined, Flight)
    assert joined.is_followed
    with joined.claim.waited_for(ANN):
        assert joined.find_waiter() == "ann"
    joined.claim._left.clear()
    assert joined.find_waiter() is None
    with joined.claim.waited_for(FLOOD[0]):
        assert joined.find_waiter() == ""
    work.release.set()
    await asyncio.gather(*map(completed, flights))


class Unreachable(Builds):
    """The table of builds, which cannot be told who waits."""

    async def note_waiting(self, waiters: object) -> None:
        raise StorageUnavailable("the database", "gone")


async def test_the_heart_beats_though_nobody_can_be_told(engines: Engines, builds: Builds) -> None:
    work, ours = Work(slots=1), Work()
    await engines.open(work).submit(job("theirs"))
    await work.started.wait()
    engines.builds = Unreachable(builds._database)
    queue = engines.open(ours)
    joined, own = await queue.submit(job("theirs")), await queue.submit(job("ours"))
    waiting = asyncio.create_task(joined.wait(SOON))
    before = await builds.find(own.id)
    assert before is not None

    async def beats() -> bool:
        row = await builds.find(own.id)
        return row is not None and row.heartbeat > before.heartbeat

    async with asyncio.timeout(SOON):
        while not await beats():
            await asyncio.sleep(0.1)
    for each in (work, ours):
        each.release.set()
    await asyncio.gather(waiting, completed(own))
