"""A build that would make what an earlier one of its environment has ends at once, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.environments.life import NamedEnvironments
from builder.service import BuilderService
from builder.work.claims import OURSELVES
from storage.digest import Digest
from storage.environments.builds import EnvironmentBuilds
from storage.environments.log_record import read_records
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild, Repetition
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[BuilderService]:
    channel = await make_channel(tmp_path / "channel", [Package("one"), Package("two")])
    async with open_service(tmp_path / "data", channel) as opened:
        yield opened


@pytest.fixture
def named(service: BuilderService) -> NamedEnvironments:
    assert service.environments is not None
    return service.environments


async def make(service: BuilderService, spec: str, name: str = "science") -> EnvironmentBuild:
    assert service.environments is not None
    build = await service.environments.create("team", name, write_down(service, spec), by="ann")
    done = await end_of(service.environments, build)
    assert done.status == BuildStatus.COMPLETED, done.status_info
    return done


async def is_repeated(named: NamedEnvironments, build: EnvironmentBuild) -> bool:
    """Whether a build's log says that it has ended with what another one has."""
    async with asyncio.timeout(60):
        while (state := await named.store.logs.find(build.id)) is None or not state.ended:
            await asyncio.sleep(0.02)
    records = [record for record, _ in read_records((await named.store.logs.read(build.id, 0)).content)]
    states = [record.data["status"] for record in records if record.kind == "state"]
    assert states == ["QUEUED", "BUILDING", "COMPLETED"]
    return "an earlier build has the same image" in records[-1].text


async def digest_of(named: NamedEnvironments, tag: str) -> Digest:
    ticket = await named.find_ticket("team/science", tag, OURSELVES)
    assert ticket is not None
    image = await ticket.wait(0)
    assert image is not None
    return image.variants[0].digest


async def test_the_same_again_is_a_build_of_its_own(service: BuilderService, named: NamedEnvironments) -> None:
    first, other = await make(service, "one"), await make(service, "two")
    again = await make(service, "one")
    assert [await is_repeated(named, each) for each in (first, other, again)] == [False, False, True]
    assert (again.same_as, again.is_current) == (first.id, True)
    assert (again.lock_key, again.image_key, again.size) == (first.lock_key, first.image_key, first.size)
    assert again.started is not None
    assert again.ended is not None
    digest = await digest_of(named, str(first.id))
    assert {await digest_of(named, tag) for tag in ("latest", str(again.id))} == {digest}
    assert await digest_of(named, str(other.id)) != digest
    # it does not need the earlier one any more
    await named.store.environments.delete_build(first.id)
    assert await digest_of(named, "latest") == digest


async def test_what_only_another_environment_has_is_published(
    service: BuilderService, named: NamedEnvironments
) -> None:
    await make(service, "one", name="other")
    assert not await is_repeated(named, await make(service, "one"))


async def test_a_rebuild_is_solved_anew(service: BuilderService, named: NamedEnvironments) -> None:
    first = await make(service, "one")
    rebuilt = await end_of(named, await named.rebuild(first.id, by="ann"))
    assert rebuilt.same_as == first.id
    assert not await is_repeated(named, rebuilt)


async def test_what_is_gone_meanwhile_is_made_again(
    service: BuilderService, named: NamedEnvironments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier build is deleted after it was found, and before the new one has ended."""
    first = await make(service, "one")
    await make(service, "two")
    find = EnvironmentBuilds.find_repeated

    async def find_and_delete(builds: EnvironmentBuilds, *key: object) -> Repetition | None:
        found = await find(builds, *key)  # type: ignore[arg-type]
        if found is not None:
            await named.store.environments.delete_build(first.id)
        return found

    monkeypatch.setattr(EnvironmentBuilds, "find_repeated", find_and_delete)
    again = await make(service, "one")
    assert (again.same_as, again.is_current) == (None, True)
    assert not await is_repeated(named, again)
    assert await digest_of(named, "latest") == await digest_of(named, str(again.id))
