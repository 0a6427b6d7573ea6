"""Builds of environments that die, are canceled, or meet others: each ends in a true state."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from builder.service import BuilderService
from builder.work.claims import OURSELVES
from storage.environments.vocabulary import BuildStatus
from storage.errors import BuildStateWrong, EnvironmentBuildUnknown
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.servers.slow import SlowServer

TOOL = Package(name="tool", files={"share/tool": File(b"tool")})

CHILD = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from builder.build import Builder
    from builder.environments.life import NamedEnvironments
    from builder.environments.work import EnvironmentWork
    from storage.catalog.builds import Builds
    from storage.catalog.images import Images
    from storage.environments.builds import EnvironmentBuilds
    from tests.support.builder.named import end_of, write_down
    from tests.support.builder.services import open_service

    STAGES = {
        "recorded": (NamedEnvironments, "_submit", False),
        "begun": (Builds, "set_building", True),
        "solved": (Builder, "_image_and_key", False),
        "made": (Images, "put", True),
        "published": (EnvironmentBuilds, "publish", True),
        "ended": (Builds, "complete", True),
        "repeated": (EnvironmentBuilds, "complete", True),
    }

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def die_in(stage):
        owner, name, after = STAGES[stage]
        real = getattr(owner, name)

        async def deadly(*args, **kwargs):
            if after:
                await real(*args, **kwargs)
            die()

        setattr(owner, name, deadly)

    async def main(root, channel, stage):
        async with open_service(Path(root), channel) as service:
            if stage == "repeated":
                # what a build ends with that has nothing else to do
                same = await service.environments.create("team", "science", write_down(service, "tool"), by="ann")
                await end_of(service.environments, same)
            die_in(stage)
            await service.environments.create("team", "science", write_down(service, "tool"), by="ann")
            await asyncio.sleep(60)

    asyncio.run(main(*sys.argv[1:]))
"""


async def finish(service: BuilderService, number: int = 1) -> BuildStatus:
    """Do what a server does that starts after the other one died, and return how its build ended."""
    named = service.environments
    assert named is not None
    await service.queue.start()
    async with asyncio.timeout(60), named.keeping():
        while not (build := await named.store.builds.find(number)).is_finished:
            await asyncio.sleep(0.05)
    assert build.is_current
    return build.status


@pytest.mark.parametrize("stage", ["recorded", "begun", "solved", "made", "published", "ended", "repeated"])
async def test_a_build_whose_process_is_killed_is_done_by_another(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.environments.life.LEFT_SECONDS", 0.1)
    channel = await make_channel(tmp_path / "channel", [TOOL])
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "data"), channel, stage
    )
    async with asyncio.timeout(120):
        assert await child.wait() == -signal.SIGKILL
    async with open_service(tmp_path / "data", channel) as service:
        begun = time.monotonic()
        assert await finish(service, 2 if stage == "repeated" else 1) == BuildStatus.COMPLETED
        assert time.monotonic() - begun < 60
        assert service.environments is not None
        ticket = await service.environments.find_ticket("team/science", "latest", OURSELVES)
        assert ticket is not None
        assert await ticket.wait(0) is not None


async def test_what_can_be_done_in_each_state(tmp_path: Path) -> None:
    await make_channel(tmp_path / "site/channel", [TOOL])
    async with SlowServer(tmp_path / "site") as server:
        held = server.hold("tool-1.0-0.conda")
        async with open_service(tmp_path / "data", f"{server.url}/channel") as service:
            named = service.environments
            assert named is not None
            environments = named.store.environments
            build = await named.create("team", "science", write_down(service, "tool"), by="ann")
            assert await asyncio.to_thread(held.reached.wait, 30)
            with pytest.raises(BuildStateWrong, match="cancel it first"):
                await environments.delete_build(build.id)
            with pytest.raises(BuildStateWrong, match="COMPLETED"):
                await environments.change("team", "science", build_id=build.id)
            second = await named.rebuild(build.id, by="bob")
            assert await named.cancel(await named.store.builds.find(build.id), "ann canceled it")
            assert not await named.cancel(await named.store.builds.find(build.id), "ann canceled it again")
            canceled = await named.store.builds.find(build.id)
            assert (canceled.status, canceled.status_info) == (BuildStatus.CANCELED, "ann canceled it")
            held.released.set()
            done = await end_of(named, second)
            assert (done.status, done.is_current) == (BuildStatus.COMPLETED, True)
            await environments.delete_build(build.id)
            with pytest.raises(EnvironmentBuildUnknown):
                await named.store.builds.find(build.id)
            with pytest.raises(BuildStateWrong, match="current build"):
                await environments.delete_build(done.id)


async def test_an_environment_goes_with_the_only_build_that_never_was_complete(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [TOOL])
    async with open_service(tmp_path / "data", channel) as service:
        named = service.environments
        assert named is not None
        failed = await end_of(named, await named.create("team", "new", write_down(service, "loot"), by="ann"))
        assert failed.status == BuildStatus.FAILED
        await named.store.environments.delete_build(failed.id)
        assert await named.store.environments.find_of_repository("team/new") is None
        again = await end_of(named, await named.create("team", "new", write_down(service, "tool"), by="ann"))
        assert again.status == BuildStatus.COMPLETED


async def test_deleting_an_environment_stops_its_builds(tmp_path: Path) -> None:
    await make_channel(tmp_path / "site/channel", [TOOL])
    async with SlowServer(tmp_path / "site") as server:
        held = server.hold("tool-1.0-0.conda")
        async with open_service(tmp_path / "data", f"{server.url}/channel") as service:
            named = service.environments
            assert named is not None
            build = await named.create("team", "science", write_down(service, "tool"), by="ann")
            assert await asyncio.to_thread(held.reached.wait, 30)
            running = await named.follow(build)
            assert running is not None
            await named.delete("team", "science", by="ann")
            with contextlib.suppress(Exception):
                await running.wait(30)
            rows = await service.builder.catalog.builds.list_unfinished()
            assert rows == []
            held.released.set()


async def test_many_who_ask_at_once_are_all_heard(tmp_path: Path) -> None:
    """Of builds that run at the same time, the last one that was asked for becomes the current one."""
    channel = await make_channel(tmp_path / "channel", [Package(name) for name in "abcdef"])
    async with open_service(tmp_path / "data", channel) as service:
        named = service.environments
        assert named is not None
        asked = await asyncio.gather(
            *(named.create("team", "science", write_down(service, name), by=name) for name in "abcdef")
        )
        done = [await end_of(named, build) for build in asked]
        assert {each.status for each in done} == {BuildStatus.COMPLETED}
        assert len({each.lock_key for each in done}) == 6
        found = await named.store.environments.find("team", "science")
        assert found.current_build == max(each.id for each in done)
