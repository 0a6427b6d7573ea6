"""The journal's promises: short, whole, of what the build waits for, and never in the build's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.environments import journal as module
from builder.environments.journal import Journals
from builder.progress import Event
from builder.work.claims import Caller, Claim, on_behalf_of
from builder.work.single_flight import SingleFlight
from builder.work.turns import Lane
from storage.environments.log_record import LogRecord, read_records
from storage.environments.log_writing import LogWriters
from storage.environments.logs import Logs
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service, spec_of
from tests.support.storage.stores import open_stores


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[Logs]:
    async with open_stores(tmp_path / "stores") as stores:
        yield Logs(stores.blobs)


@pytest.fixture
async def writers(logs: Logs) -> AsyncIterator[LogWriters]:
    opened = LogWriters(logs)
    yield opened
    await opened.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "AGAIN", (0.05, 1000.0))


async def read(logs: Logs, build: int = 1) -> list[LogRecord]:
    page = await logs.read(build, 0)
    return [record for record, _ in read_records(page.content)]


async def until_it_ends(logs: Logs, build: int = 1) -> None:
    async with asyncio.timeout(60):
        while (state := (await logs.find_all([build])).get(build)) is None or not state.ended:
            await asyncio.sleep(0.02)


async def until_it_has(logs: Logs, kind: str, count: int) -> list[LogRecord]:
    async with asyncio.timeout(60):
        while len(found := [record for record in await read(logs) if record.kind == kind]) < count:
            await asyncio.sleep(0.02)
    return found


async def test_thousands_of_packages_are_a_few_records(logs: Logs, writers: LogWriters) -> None:
    async with Journals(writers).keeping(1) as journal:
        journal.change_state("BUILDING")
        journal(Event("solve", 0, 1, "numpy"))
        journal(Event("solve", 1, 1, "3000 packages"))
        for number in range(3000):
            journal(Event("download", (number + 1) * 10**6, 3000 * 10**6, f"package-{number}"))
        journal(Event("image", 1, 1, "sha256:abc"))
        journal.change_state("COMPLETED")
    await until_it_ends(logs)
    found = await read(logs)
    stages = [(str(record.data["stage"]), record.data["status"]) for record in found if record.kind == "stage"]
    assert stages == [
        ("solve", "begun"),
        ("solve", "ended"),
        ("download", "begun"),
        ("download", "ended"),
        ("image", "ended"),
    ]
    assert len(found) < 20
    [download] = [each for each in found if (each.data.get("stage"), each.data.get("status")) == ("download", "ended")]
    assert (download.data["done"], download.data["total"], download.data["unit"]) == (3 * 10**9, 3 * 10**9, "bytes")
    assert isinstance(download.data["seconds"], float)
    assert download.text.startswith("downloading packages: done after ")
    states = [record.data["status"] for record in found if record.kind == "state"]
    assert states == ["BUILDING", "COMPLETED"]
    await until_it_ends(logs)


async def test_progress_is_told_every_few_seconds(
    logs: Logs, writers: LogWriters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.0)
    async with Journals(writers).keeping(1) as journal:
        journal(Event("download", 10**6, 3 * 10**6, "a"))
        journal(Event("download", 2 * 10**6, 3 * 10**6, "b"))
        # of the same stage for another platform
        journal(Event("inspect", 1, 2, "x"))
    await until_it_ends(logs)
    told = [record.text for record in await read(logs) if record.kind == "progress"]
    assert told == [
        "downloading packages: 1.0 of 3.0 MB (a)",
        "downloading packages: 2.0 of 3.0 MB (b)",
        "reading packages: 1 of 2 (x)",
    ]


async def test_a_failure_breaks_the_stage_off_and_says_why(logs: Logs, writers: LogWriters) -> None:
    async with Journals(writers).keeping(1) as journal:
        journal(Event("solve", 0, 1, "numpy"))
        journal.say("one line\nanother")
        journal.change_state("FAILED", "there is no numpy", {"error": "Unsatisfiable"})
    await until_it_ends(logs)
    *_, line, second, stage, state = await read(logs)
    assert (line.text, second.text) == ("one line", "another")
    assert (stage.data["stage"], stage.data["status"]) == ("solve", "broken off")
    assert state.text == "FAILED: there is no numpy"
    assert dict(state.data) == {"status": "FAILED", "error": "Unsatisfiable"}


@pytest.mark.usefixtures("hasty")
async def test_what_a_build_waits_for_and_how_long(logs: Logs, writers: LogWriters) -> None:
    lane, claim, release = Lane(1, what="a turn to begin"), Claim(Caller("a")), asyncio.Event()

    async def hold() -> None:
        async with lane.turn():
            await release.wait()

    holders = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    async with Journals(writers).keeping(1, claim) as journal:
        with on_behalf_of(claim):
            waiting = asyncio.create_task(hold())
        told = await until_it_has(logs, "waiting", 2)
        release.set()
        await asyncio.gather(waiting, *holders)
        told = await until_it_has(logs, "waiting", 3)
        journal.change_state("COMPLETED")
    assert [record.data["for"] for record in told] == ["a turn to begin"] * 3
    assert told[0].text.endswith(" s for a turn to begin; 2 others wait for one, too")
    assert told[0].data["others"] == 2
    assert float(told[1].data["seconds"] or 0) >= float(told[0].data["seconds"] or 0)
    assert told[2].text.startswith("got a turn to begin after ")
    assert told[2].data["status"] == "ended"


@pytest.mark.usefixtures("hasty")
async def test_what_the_work_waits_for_that_it_shares_with_other_builds(logs: Logs, writers: LogWriters) -> None:
    lane, release, flights = Lane(1, what="a turn to solve"), asyncio.Event(), SingleFlight[str, None]()
    first, second = Claim(Caller("a")), Claim(Caller("b"))

    async def hold() -> None:
        async with lane.turn():
            await release.wait()

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    async with Journals(writers).keeping(1, second):
        tasks = []
        for claim in (first, second):
            with on_behalf_of(claim):
                tasks.append(asyncio.create_task(flights.do("the same", hold)))
        [told, *_] = await until_it_has(logs, "waiting", 1)
        release.set()
        await asyncio.gather(holder, *tasks)
    assert told.data["for"] == "a turn to solve"
    assert list(first.list_waits()) == []


@pytest.mark.usefixtures("hasty")
async def test_a_build_that_does_something_meanwhile_does_not_wait(logs: Logs, writers: LogWriters) -> None:
    lane, claim, release = Lane(1, what="a turn to download"), Claim(Caller("a")), asyncio.Event()

    async def hold() -> None:
        async with lane.turn():
            await release.wait()

    async with Journals(writers).keeping(1, claim) as journal:
        with on_behalf_of(claim):
            tasks = [asyncio.create_task(hold()) for _ in range(2)]
        for number in range(30):
            await asyncio.sleep(0.01)
            journal(Event("download", number, 1000, ""))
            journal.look()
        release.set()
        await asyncio.gather(*tasks)
        assert [record for record in await read(logs) if record.kind == "waiting"] == []


async def test_another_process_goes_on_with_the_log_of_a_stopped_one(logs: Logs, writers: LogWriters) -> None:
    begun = asyncio.Event()

    async def build() -> None:
        async with Journals(writers).keeping(1) as journal:
            journal.change_state("BUILDING")
            begun.set()
            await asyncio.sleep(1000)

    task = asyncio.create_task(build())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not (await logs.find_all([1]))[1].ended
    others = LogWriters(logs)
    async with Journals(others).keeping(1, resumed=True) as journal:
        journal.change_state("COMPLETED")
    await others.close()
    assert [record.kind for record in await read(logs)] == ["state", "resumed", "state"]
    await until_it_ends(logs)


async def test_the_log_of_a_canceled_build_ends(logs: Logs, writers: LogWriters) -> None:
    begun = asyncio.Event()

    async def build() -> None:
        async with Journals(writers).keeping(1) as journal:
            begun.set()
            try:
                await asyncio.sleep(1000)
            finally:
                journal.change_state("CANCELED", "by somebody")

    task = asyncio.create_task(build())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await logs.find_all([1]))[1].ended


async def test_what_cannot_be_written_fails_no_build(logs: Logs, writers: LogWriters) -> None:
    async with Journals(writers).keeping(1) as journal:
        journal.tell("odd", "text", {"a": object()})  # type: ignore[dict-item]  # what no document has
        journal.tell("good", "text")
    await until_it_ends(logs)
    assert [record.kind for record in await read(logs)] == ["good"]


async def test_the_journal_of_a_real_build(tmp_path: Path, logs: Logs, writers: LogWriters) -> None:
    packages = [Package(name=name, files={f"share/{name}": File(b"y")}) for name in "ab"]
    channel = await make_channel(tmp_path / "channel", packages)
    async with open_service(tmp_path / "data", channel) as service, Journals(writers).keeping(1) as journal:
        await service.build(spec_of(service, "a", "b"), journal)
        journal.change_state("COMPLETED")
    await until_it_ends(logs)
    found = [record for record in await read(logs) if record.kind == "stage" and record.data["status"] == "ended"]
    assert [record.data["stage"] for record in found] == ["solve", "download", "inspect", "layers", "image"]
