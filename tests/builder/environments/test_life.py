"""The life of a named environment, with real solves, builds and rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

from builder.environments.inputs.input import EnvironmentInput, InputKind
from builder.environments.life import NamedEnvironments, write_repository
from builder.names.image_name import parse_specs
from builder.service import BuilderService
from builder.work.claims import OURSELVES
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service


def write_down(service: BuilderService, *specs: str) -> EnvironmentInput:
    spec = parse_specs(specs, service.builder.settings)
    document = {"name": "science", "channels": list(spec.channels), "dependencies": list(specs)}
    return EnvironmentInput(InputKind.ENVIRONMENT, document, spec, name="science")


async def end_of(named: NamedEnvironments, build: EnvironmentBuild) -> EnvironmentBuild:
    async with asyncio.timeout(60):
        while not (found := await named.store.builds.find(build.id)).is_finished:
            await asyncio.sleep(0.02)
    return found


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
        await named.store.environments.set_current("team", "Science", first.id)
        ticket = await named.find_ticket("team/science", "latest", OURSELVES)
        assert ticket is not None
        image = await ticket.wait(0)
        assert image is not None
        assert image.lock_key == done.lock_key
        bad = await end_of(named, await named.create("team", "Science", write_down(service, "tow"), by="bob"))
        assert bad.status == BuildStatus.FAILED
        assert bad.status_info is not None
        assert bad.status_info.startswith("no package tow for linux-64")


def test_names() -> None:
    assert write_repository("team", "My_Env+2") == "team/my_env-2"
