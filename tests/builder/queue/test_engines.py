"""What every engine of the queue promises (`builder.queue.protocol`), over both databases."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial

import pytest
from sqlalchemy import update

from builder.errors import BuildCanceled, BuildFailed, DownloadFailed, TooManyBuilds, Unsatisfiable
from builder.queue.embedded import MOST_ATTEMPTS
from builder.queue.protocol import CompletedBuild, Priority
from builder.work.claims import Caller
from storage.catalog.builds import Builds
from storage.database import tables
from storage.errors import QuotaExceeded, ServerStopping
from tests.builder.queue.engines import (
    NUMPY,
    SETTINGS,
    SOON,
    Engines,
    Work,
    completed,
    job,
    status_of,
    until,
    wait_for_status,
)
from tests.support.storage.stores import count_builds


class TestSubmitting:
    async def test_one_build_for_many(self, engines: Engines, builds: Builds) -> None:
        work = Work()
        queue = engines.open(work)
        submitted = await asyncio.gather(*(queue.submit(NUMPY) for _ in range(50)))
        await work.started.wait()
        assert await submitted[0].wait(0) is None
        work.release.set()
        done = [await completed(each) for each in submitted]
        assert set(done) == {CompletedBuild(submitted[0].id, "key of numpy")}
        assert len(work.begun) == 1
        assert await count_builds(builds, NUMPY.key) == 1
        row = await builds.find(submitted[0].id)
        assert row is not None
        assert (row.status, row.made) == ("COMPLETED", "key of numpy")

    async def test_one_build_for_two_processes(self, engines: Engines) -> None:
        work = Work()
        one = await engines.open(work).submit(NUMPY)
        await work.started.wait()
        other = await engines.open(work).submit(NUMPY)
        assert await other.wait(0.5) is None
        assert other.id == one.id
        work.release.set()
        assert await completed(other) == await completed(one) == CompletedBuild(one.id, "key of numpy")
        assert len(work.begun) == 1

    async def test_who_began_it_is_told_in_one_process_alone(self, engines: Engines) -> None:
        work, told = Work(), Counter[str]()
        queue, other = engines.open(work), engines.open(work)
        for name, each in (("one", queue), ("two", queue), ("three", other)):
            await each.submit(NUMPY, begun=partial(told.update, [name]))
        assert told == {"one": 1}
        work.release.set()
        await completed(await other.submit(NUMPY))
        await completed(await queue.submit(NUMPY, begun=partial(told.update, ["again"])))
        assert told == {"one": 1, "again": 1}

    async def test_who_is_gone_when_it_begins_is_told(self, engines: Engines) -> None:
        work, told = Work(), asyncio.Event()
        asking = asyncio.create_task(engines.open(work).submit(NUMPY, begun=told.set))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(SOON):
            await told.wait()
        work.release.set()

    async def test_who_is_cancelled_does_not_disturb_the_build(self, engines: Engines) -> None:
        work = Work()
        build = await engines.open(work).submit(NUMPY)
        await work.started.wait()
        waiter = asyncio.create_task(build.wait(None))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        work.release.set()
        await completed(build)

    async def test_a_caller_has_so_many_and_no_more(self, engines: Engines) -> None:
        settings = SETTINGS.model_copy(update={"builds_per_caller": 2, "builds_at_most": 3})
        work = Work()
        queue = engines.open(work, settings)
        greedy, modest = Caller("10.0.0.1"), Caller("10.0.0.2")
        for name in ("a", "b"):
            await queue.submit(job(name), greedy)
        with pytest.raises(TooManyBuilds, match="builds_per_caller"):
            await queue.submit(job("c"), greedy)
        await queue.submit(job("a"), greedy)
        await queue.submit(job("c"), modest)
        with pytest.raises(TooManyBuilds, match="builds_at_most"):
            await queue.submit(job("d"), modest)

    async def test_strangers_leave_room_for_who_is_signed_in(self, engines: Engines) -> None:
        limits = {"builds_per_caller": 3, "builds_at_most": 5, "anonymous_builds_at_most": 2}
        queue = engines.open(Work(), SETTINGS.model_copy(update=limits))
        for number in range(2):
            await queue.submit(job(f"flood{number}"), Caller(f"203.0.113.{number}"))
        with pytest.raises(TooManyBuilds, match=r"2 builds for all who are not signed in .*anonymous_builds_at_most"):
            await queue.submit(job("flood2"), Caller("203.0.113.2"))
        for number in range(3):
            await queue.submit(job(f"ann{number}"), Caller("ann", signed_in=True))
        with pytest.raises(TooManyBuilds, match=r"3 builds for ann .*builds_per_caller"):
            await queue.submit(job("ann3"), Caller("ann", signed_in=True))
        with pytest.raises(TooManyBuilds, match="builds_at_most"):
            await queue.submit(job("bob"), Caller("bob", signed_in=True))
        assert await queue.submit(job("ann0"), Caller("203.0.113.9")), "joining is always allowed"

    async def test_so_many_new_ones_a_minute_and_no_more(self, engines: Engines) -> None:
        queue = engines.open(Work(released=True), SETTINGS.model_copy(update={"builds_per_minute": 2}))
        ann = Caller("ann", signed_in=True)
        for name in ("a", "b"):
            await completed(await queue.submit(job(name), ann))
        with pytest.raises(
            TooManyBuilds, match=r"2 builds were begun for ann .*builds_per_minute.*ask again"
        ) as raised:
            await queue.submit(job("c"), ann)
        assert 1 <= raised.value.retry_after <= 30
        # an address of the same name is somebody else
        await completed(await queue.submit(job("c"), Caller("ann")))


class TestOrder:
    async def test_the_more_urgent_goes_first(self, engines: Engines) -> None:
        work = Work(slots=1)
        queue = engines.open(work)
        submitted = [await queue.submit(job("first"))]
        await work.started.wait()
        for name, priority in (("low", Priority.LOW), ("normal", Priority.NORMAL), ("high", Priority.HIGH)):
            submitted.append(await queue.submit(job(name), Caller(name), priority))
        await until(lambda: work.waiting == 3)
        work.release.set()
        await asyncio.gather(*map(completed, submitted))
        assert work.begun == ["first", "high", "normal", "low"]

    async def test_a_flood_from_many_addresses_waits_for_who_is_signed_in(self, engines: Engines) -> None:
        work = Work(slots=1)
        queue = engines.open(work)
        submitted = [await queue.submit(job(f"flood{n}"), Caller(f"203.0.113.{n}")) for n in range(200)]
        await until(lambda: work.waiting == 199)
        submitted.append(await queue.submit(job("ann"), Caller("ann", signed_in=True)))
        await until(lambda: work.waiting == 200)
        work.release.set()
        await asyncio.gather(
            *(build.wait(SOON, Caller(f"203.0.113.{n}")) for n, build in enumerate(submitted[:-1])),
            submitted[-1].wait(SOON, Caller("ann", signed_in=True)),
        )
        assert work.begun[1] == "ann"

    async def test_one_that_waits_becomes_urgent(self, engines: Engines, builds: Builds) -> None:
        work = Work(slots=1)
        queue, other = engines.open(work), engines.open(work)
        submitted = [await queue.submit(job("first"))]
        await work.started.wait()
        names = ("asked again", "set here", "set elsewhere", "normal", "lowered")
        by_name = {name: await queue.submit(job(name), priority=Priority.LOW) for name in names[:3]}
        by_name |= {name: await queue.submit(job(name)) for name in names[3:]}
        await until(lambda: work.waiting == 5)
        await queue.submit(job("asked again"), priority=Priority.HIGH)
        assert await queue.set_priority(by_name["set here"].id, Priority.HIGH)
        assert await other.set_priority(by_name["set elsewhere"].id, Priority.HIGH)
        assert await other.set_priority(by_name["lowered"].id, Priority.LOW)
        assert not await queue.set_priority("nothing", Priority.HIGH)
        rows = {row.id: row.priority for row in await builds.list_unfinished()}
        assert [rows[by_name[name].id] for name in names] == [1, 1, 1, 0, -1]
        # within a beat the one that works on them has heard of it
        await asyncio.sleep(2.5)
        work.release.set()
        await asyncio.gather(*map(completed, [*submitted, *by_name.values()]))
        assert set(work.begun[1:4]) == set(names[:3])
        assert work.begun[4:] == ["normal", "lowered"]

    async def test_who_asks_elsewhere_makes_it_urgent(self, engines: Engines, builds: Builds) -> None:
        work = Work()
        build = await engines.open(work).submit(NUMPY, priority=Priority.LOW)
        await work.started.wait()
        other = engines.open(work)
        for priority, then in (
            (Priority.NORMAL, 0),
            (Priority.LOW, 0),
            (Priority.HIGH, 1),
            (Priority.NORMAL, 1),
        ):
            assert (await other.submit(NUMPY, priority=priority)).id == build.id
            row = await builds.find(build.id)
            assert row is not None
            assert row.priority == then
        assert await other.set_priority(build.id, Priority.LOW)
        # it does not insist
        await asyncio.sleep(0.5)
        row = await builds.find(build.id)
        assert row is not None
        assert row.priority == Priority.LOW

    async def test_what_nobody_waits_for_gives_way(self, engines: Engines) -> None:
        work = Work(slots=1)
        queue = engines.open(work)
        first = await queue.submit(job("first"), Caller("x"))
        await work.started.wait()
        left, wanted = await queue.submit(job("left"), Caller("a")), await queue.submit(job("wanted"), Caller("b"))
        await until(lambda: work.waiting == 2)
        waiting = asyncio.create_task(wanted.wait(SOON, Caller("b")))
        await asyncio.sleep(0)
        work.release.set()
        await asyncio.gather(completed(first), waiting)
        await completed(left)
        assert work.begun == ["first", "wanted", "left"]


class TestFailing:
    async def test_a_failure_is_remembered_for_a_while(self, engines: Engines) -> None:
        work = Work(Unsatisfiable("linux-64", "numpy 9 does not exist"), released=True)
        queue = engines.open(work)
        with pytest.raises(BuildFailed, match="numpy 9 does not exist") as failed:
            await completed(await queue.submit(NUMPY))
        assert failed.value.kind == "Unsatisfiable"
        for each in (queue, engines.open(work)):
            remembered = await each.find_remembered_failure(NUMPY)
            assert remembered is not None
            assert str(remembered) == str(failed.value)
        forgetful = engines.open(work, SETTINGS.model_copy(update={"failure_memory": 0}))
        assert await forgetful.find_remembered_failure(NUMPY) is None
        assert len(work.begun) == 1

    async def test_a_quota_that_was_raised_helps_at_once(self, engines: Engines) -> None:
        work = Work(QuotaExceeded("namespace conda-store-dynamic", "bytes", 1, 2), released=True)
        queue = engines.open(work)
        for _ in range(2):
            with pytest.raises(BuildFailed, match="may hold 1 bytes") as failed:
                await completed(await queue.submit(NUMPY))
            assert failed.value.kind == "QuotaExceeded"
            assert await queue.find_remembered_failure(NUMPY) is None
        assert len(work.begun) == 2

    async def test_a_failure_is_told_in_every_process(self, engines: Engines) -> None:
        work = Work(Unsatisfiable("linux-64", "no"))
        submitted = [await engines.open(work).submit(NUMPY) for _ in range(2)]
        await work.started.wait()
        await asyncio.sleep(0.3)
        work.release.set()
        for each in submitted:
            with pytest.raises(BuildFailed, match="no"):
                await completed(each)

    async def test_a_defect_is_a_failure_that_says_little(self, engines: Engines, builds: Builds) -> None:
        work = Work(ZeroDivisionError("secret"), released=True)
        with pytest.raises(BuildFailed, match="internal error") as failed:
            await completed(await engines.open(work).submit(NUMPY))
        assert "secret" not in str(failed.value)
        row = await builds.last(NUMPY.key)
        assert row is not None
        assert (row.status, row.error_kind, row.error_transient) == ("FAILED", "ZeroDivisionError", True)

    @pytest.mark.parametrize("reason", ["a member b\udcff", "a \0 in it", "a\x1b[2J"])
    async def test_a_reason_that_is_no_text_is_recorded(self, engines: Engines, reason: str) -> None:
        """A package decides the bytes of what it is refused for. A build that never ended would keep all waiting."""
        queue = engines.open(Work(DownloadFailed("tool", reason), released=True))
        with pytest.raises(BuildFailed) as failed:
            await completed(await queue.submit(NUMPY))
        remembered = await queue.find_remembered_failure(NUMPY)
        assert remembered is not None
        assert remembered.message == failed.value.message
        assert remembered.message.isprintable()

    async def test_a_build_that_takes_every_process_down_is_given_up(self, engines: Engines, builds: Builds) -> None:
        await builds.begin("deadly", NUMPY.key, NUMPY.to_json(), "gone/0/0")
        work = Work(released=True)
        for death in range(MOST_ATTEMPTS):
            await builds.set_building("deadly")
            await _die(builds, f"gone/{death}/{death}")
        with pytest.raises(BuildFailed, match="the server stopped 5 times while it worked on this build"):
            await completed(await engines.open(work).submit(NUMPY))
        assert work.begun == []

    async def test_a_build_that_only_waited_is_not_blamed(self, engines: Engines, builds: Builds) -> None:
        """Whatever took those processes down, it was not this build."""
        await builds.begin("patient", NUMPY.key, NUMPY.to_json(), "gone/0/0")
        work = Work(released=True)
        for death in range(2 * MOST_ATTEMPTS):
            if death < MOST_ATTEMPTS - 1:
                await builds.set_building("patient")
            await _die(builds, f"gone/{death}/{death}")
        assert (await completed(await engines.open(work).submit(NUMPY))).made == "key of numpy"


async def _die(builds: Builds, heir: str) -> None:
    """The owner of the only build dies, and another process takes it."""
    (row,) = await builds.list_unfinished()
    assert await builds.take(row, heir)
    async with builds._database.writing() as connection:
        # for so long has it been silent
        await connection.execute(update(tables.build).values(heartbeat=1.0))


class TestCanceling:
    async def test_a_running_build(self, engines: Engines, builds: Builds) -> None:
        work = Work()
        queue = engines.open(work)
        build = await queue.submit(NUMPY)
        await wait_for_status(builds, "BUILDING")
        waiting = asyncio.create_task(build.wait(None))
        await work.started.wait()
        assert await queue.cancel(build.id, "ada canceled it")
        with pytest.raises(BuildCanceled, match="ada canceled it"):
            await waiting
        await until(lambda: work.stopped == ["numpy"])
        row = await builds.find(build.id)
        assert row is not None
        assert (row.status, row.error_kind, row.error_message) == ("CANCELED", "BuildCanceled", "ada canceled it")
        # a client that tries again at once does not begin it anew
        assert isinstance(await queue.find_remembered_failure(NUMPY), BuildCanceled)
        assert not await queue.cancel(build.id, "once more")
        assert not await queue.cancel("nothing", "")

    async def test_one_that_was_just_submitted(self, engines: Engines, builds: Builds) -> None:
        work = Work()
        queue = engines.open(work)
        build = await queue.submit(NUMPY)
        assert await queue.cancel(build.id, "ada canceled it")
        with pytest.raises(BuildCanceled, match="ada canceled it"):
            await completed(build)
        assert await status_of(builds) == "CANCELED"

    async def test_one_that_waits_for_its_turn(self, engines: Engines) -> None:
        work = Work(slots=1)
        queue = engines.open(work)
        first = await queue.submit(job("first"))
        await work.started.wait()
        build = await queue.submit(NUMPY)
        await until(lambda: work.waiting == 1)
        assert await queue.cancel(build.id, "no longer needed")
        with pytest.raises(BuildCanceled, match="no longer needed"):
            await completed(build)
        work.release.set()
        await completed(first)
        assert work.begun == ["first"]

    async def test_from_another_process(self, engines: Engines, builds: Builds) -> None:
        work = Work()
        build = await engines.open(work).submit(NUMPY)
        other = engines.open(work)
        joined = await other.submit(NUMPY)
        await work.started.wait()
        assert await other.cancel(build.id, "ada canceled it")
        for each in (joined, build):
            with pytest.raises(BuildCanceled, match="ada canceled it"):
                await completed(each)
        await until(lambda: work.stopped == ["numpy"])
        assert await status_of(builds) == "CANCELED"

    async def test_what_is_asked_for_again_later_is_built(self, engines: Engines) -> None:
        work = Work()
        queue = engines.open(work)
        build = await queue.submit(NUMPY)
        await work.started.wait()
        assert await queue.cancel(build.id, "no")
        work.release.set()
        again = await queue.submit(NUMPY)
        assert again.id != build.id
        assert (await completed(again)).made == "key of numpy"

    async def test_one_that_is_done_stays_done(self, engines: Engines, builds: Builds) -> None:
        queue = engines.open(Work(released=True))
        build = await queue.submit(NUMPY)
        await completed(build)
        assert not await queue.cancel(build.id, "too late")
        assert await status_of(builds) == "COMPLETED"


class TestFollowing:
    async def test_a_build_is_waited_for_by_its_id(self, engines: Engines) -> None:
        work = Work()
        queues = [engines.open(work) for _ in range(2)]
        build = await queues[0].submit(NUMPY)
        followed = [await queue.follow(build.id) for queue in queues]
        for each in followed:
            assert each is not None
            assert each.id == build.id
            assert await each.wait(0) is None
        work.release.set()
        end = await completed(build)
        # also when it has ended, and nothing is begun anew
        for each in (*followed, *[await queue.follow(build.id) for queue in queues]):
            assert each is not None
            assert await completed(each) == end
        assert work.begun == ["numpy"]
        assert await queues[0].follow("nothing") is None

    async def test_a_failure_is_told(self, engines: Engines) -> None:
        build = await engines.open(Work(Unsatisfiable("linux-64", "no"), released=True)).submit(NUMPY)
        followed = await engines.open(Work()).follow(build.id)
        assert followed is not None
        for _ in range(2):
            with pytest.raises(BuildFailed, match="no"):
                await completed(followed)

    async def test_closing_ends_the_wait(self, engines: Engines) -> None:
        build = await engines.open(Work()).submit(NUMPY)
        other = engines.open(Work())
        followed = await other.follow(build.id)
        assert followed is not None
        waiting = asyncio.create_task(followed.wait(None))
        await asyncio.sleep(0)
        await other.close()
        with pytest.raises(ServerStopping):
            await waiting


class TestTakingOver:
    async def test_the_build_of_a_killed_process(self, engines: Engines, builds: Builds) -> None:
        with engines.process() as process:
            (row,) = await builds.list_unfinished()
            work = Work(released=True)
            waiting = await engines.open(work).submit(NUMPY)
            assert await waiting.wait(1) is None
            process.kill()
            assert (await completed(waiting)).id == row.id
        after = await builds.find(row.id)
        assert after is not None
        assert (after.status, after.attempts) == ("COMPLETED", 2)

    async def test_it_is_resumed_at_the_start(self, engines: Engines, builds: Builds) -> None:
        with engines.process() as process:
            process.kill()
            process.wait()
            work = Work(released=True)
            await engines.open(work).start()
            await until(lambda: work.begun)
            await wait_for_status(builds, "COMPLETED")

    async def test_what_is_closed_is_left_to_the_next(self, engines: Engines, builds: Builds) -> None:
        queue = engines.open(Work())
        build = await queue.submit(NUMPY, priority=Priority.HIGH)
        await wait_for_status(builds, "BUILDING")
        waiting = asyncio.create_task(build.wait(None))
        await asyncio.sleep(0)
        await queue.close()
        with pytest.raises(ServerStopping, match="try again"):
            await waiting
        (row,) = await builds.list_unfinished()
        assert (row.id, row.priority) == (build.id, Priority.HIGH)
        work = Work(released=True)
        await engines.open(work).start()
        await wait_for_status(builds, "COMPLETED")
        after = await builds.find(row.id)
        assert after is not None
        # nobody died of it
        assert after.attempts == 1


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_wrong_clock_neither_takes_nor_loses(
    engines: Engines, builds: Builds, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Of two processes on machines whose clocks differ by an hour, one waits for the other. Both are owners that are
    known by their lease alone."""
    monkeypatch.setattr("builder.queue.owner._read_boot_id", lambda _proc: "")
    right = time.time
    work = Work()
    mine = await engines.open(work).submit(NUMPY)
    await work.started.wait()
    monkeypatch.setattr(time, "time", lambda: right() + hours * 3600)
    theirs = await engines.open(work).submit(NUMPY)
    # a beat of the one whose clock was right when it began
    await asyncio.sleep(2.5)
    assert await theirs.wait(0) is None
    assert theirs.id == mine.id
    assert len(work.begun) == 1
    work.release.set()
    assert await completed(theirs) == await completed(mine)
    failing = engines.open(Work(Unsatisfiable("linux-64", "no"), released=True))
    other = job("other")
    with pytest.raises(BuildFailed):
        await completed(await failing.submit(other))
    monkeypatch.setattr(time, "time", right)
    assert await failing.find_remembered_failure(other) is not None
