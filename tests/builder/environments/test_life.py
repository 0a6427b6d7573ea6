"""The life of a named environment, with real solves, builds and rows."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from builder.environments import journal
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.reading import read_input
from builder.environments.life import NamedEnvironments
from builder.environments.repository import write_repository
from builder.locks.formats import write_conda_lock
from builder.locks.lock import Lock
from builder.work.claims import OURSELVES, Caller, Claim, on_behalf_of
from storage.environments.log_record import LogRecord, read_records
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service


async def test_from_a_file_to_an_image_and_back(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("one"), Package("two")])
    async with open_service(tmp_path / "data", channel) as service:
        named = service.environments
        assert named is not None
        first = await named.create("team", "Science", write_down(service, "one"), by="ann")
        done = await end_of(named, first)
        assert (done.status, done.is_current, done.repository) == (BuildStatus.COMPLETED, True, "team/science")
        second = await end_of(named, await named.create("team", "Science", write_down(service, "two"), by="bob"))
        assert second.status == BuildStatus.COMPLETED
        assert second.is_current
        third = await end_of(named, await named.create("team", "Science", write_down(service, "one"), by="bob"))
        assert third.same_as == first.id
        await named.store.environments.change("team", "Science", build_id=first.id)
        ticket = await named.find_ticket("team/science", "latest", OURSELVES)
        assert ticket is not None
        image = await ticket.wait(0)
        assert image is not None
        assert image.lock_key == done.lock_key
        bad = await end_of(named, await named.create("team", "Science", write_down(service, "tow"), by="bob"))
        assert bad.status == BuildStatus.FAILED
        assert bad.status_info is not None
        assert bad.status_info.startswith("no package tow for linux-64")


async def log_of(named: NamedEnvironments, build: EnvironmentBuild) -> list[LogRecord]:
    """What its log has once it has ended."""
    async with asyncio.timeout(60):
        while (state := await named.store.logs.find(build.id)) is None or not state.ended:
            await asyncio.sleep(0.02)
    return [record for record, _ in read_records((await named.store.logs.read(build.id, 0)).content)]


async def test_the_log_says_what_a_build_waits_for_and_how_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.05)
    monkeypatch.setattr(journal, "LOOK_SECONDS", 0.02)
    channel = await make_channel(tmp_path / "channel", [Package("one")])
    async with open_service(tmp_path / "data", channel, concurrent_builds=1) as service:
        named = service.environments
        assert named is not None
        async with contextlib.AsyncExitStack() as stack:
            lane = service.builder.stages.begun
            for number in range(lane._slots.count + lane._slots.extra):
                with on_behalf_of(Claim(Caller(f"somebody{number}", signed_in=True), lasting=True)):
                    await stack.enter_async_context(lane.turn())
            build = await named.create("team", "science", write_down(service, "one"), by="ann")
            canceled = await named.create("team", "other", write_down(service, "one"), by="ann")
            async with asyncio.timeout(60):
                for each in (build, canceled):
                    while b"a turn to begin" not in (await named.store.logs.read(each.id, 0)).content:
                        await asyncio.sleep(0.02)
            await named.cancel(canceled, "It is not needed.")
        await end_of(named, build)
        events = [record for record in await log_of(named, build) if record.is_event]
        states = [record.data["status"] for record in events if record.kind == "state"]
        assert states == ["QUEUED", "BUILDING", "COMPLETED"]
        waits = [record.data["for"] for record in events if record.kind == "waiting"]
        assert "a turn to begin" in waits
        last = (await log_of(named, canceled))[-1]
        assert last.data["status"] == "CANCELED"


def test_names() -> None:
    assert write_repository("team", "My_Env+2") == "team/my_env-2"


async def test_a_lock_that_somebody_sent_is_built_as_it_is(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("one", depends=["two"]), Package("two")])
    async with open_service(tmp_path / "data", channel) as service:
        named = service.environments
        assert named is not None
        solved = await end_of(named, await named.create("team", "solved", write_down(service, "one"), by="ann"))
        assert solved.lock_key is not None
        document = await service.builder.catalog.locks.find(solved.lock_key)
        assert document is not None
        settings = InputSettings.of(service.builder.settings, needs_name=False)
        text = write_conda_lock(Lock.from_json(document))
        for _ in range(2):
            sent = read_input(text, settings, is_lock=True)
            build = await end_of(named, await named.create("team", "sent", sent, by="ann"))
            assert (build.status, build.status_info) == (BuildStatus.COMPLETED, build.status_info)
            assert build.lock_key is not None
            found = await service.builder.catalog.locks.find(build.lock_key)
            assert found is not None
            [packages] = Lock.from_json(found).packages.values()
            assert [(each.name, each.depends) for each in packages] == [("two", ()), ("one", ("two",))]
        assert build.same_as is not None


async def test_an_environment_builds_on_another(tmp_path: Path) -> None:
    channel = await make_channel(
        tmp_path / "channel", [Package("one", version="1"), Package("one", version="2"), Package("two")]
    )
    async with open_service(tmp_path / "data", channel) as service:
        named = service.environments
        assert named is not None
        above = replace(write_down(service, "two", "one"), extends="team/base")
        early = await end_of(named, await named.create("team", "above", above, by="ann"))
        assert early.status == BuildStatus.FAILED
        assert early.status_info is not None
        assert "no environment 'team/base'" in early.status_info
        await end_of(named, await named.create("team", "base", write_down(service, "one==1"), by="ann"))
        late = await end_of(named, await named.create("team", "above", above, by="ann"))
        assert late.lock_key is not None, late.status_info
        document = await service.builder.catalog.locks.find(late.lock_key)
        assert document is not None
        [packages] = Lock.from_json(document).packages.values()
        assert sorted((each.name, each.version) for each in packages) == [("one", "1"), ("two", "1.0")]
