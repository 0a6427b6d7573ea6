"""A server keeps the directories of environments as the environments are."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aiohttp import web

from builder.environments.directories.settings import DirectorySettings
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.reading import read_input
from builder.environments.life import NamedEnvironments
from builder.settings import BuilderSettings
from registry.app import create_app
from registry.parts import PARTS
from registry.settings.model import Settings
from storage.environments.vocabulary import EnvironmentBuild
from storage.settings import StorageSettings
from tests.support.builder.named import end_of
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel


class Place:
    def __init__(self, named: NamedEnvironments, builder: BuilderSettings, root: Path) -> None:
        self.named, self.builder, self.root = named, builder, root

    async def make(self, name: str, package: str) -> EnvironmentBuild:
        text = json.dumps({"name": name, "dependencies": [package]})
        wanted = read_input(text.encode(), InputSettings.of(self.builder))
        return await end_of(self.named, await self.named.create("team", name, wanted, by="ann"))

    async def until(self, what: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not what():
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Place]:
    packages = [Package(name, files={"share/name": File(name.encode())}) for name in ("one", "two")]
    channel = await make_channel(tmp_path / "channel", packages)
    builder = BuilderSettings(channels=(channel,), base="scratch", repodata_refresh=0, workers=1)
    settings = Settings(
        builder=builder,
        storage=StorageSettings(data_directory=tmp_path / "data"),
        directories=DirectorySettings(environments_directory=tmp_path / "envs", environments_grace=0),
    )
    app = create_app(settings)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        named = app[PARTS].environments
        assert named is not None
        yield Place(named, builder, tmp_path / "envs/team")
    finally:
        await runner.cleanup()


async def test_the_link_follows_the_current_build(tmp_path: Path) -> None:
    async with serving(tmp_path) as place:
        link = place.root / "envs/science"
        first = await place.make("science", "one")
        await place.until(lambda: link.is_symlink() and (link / "share/name").read_text() == "one")
        assert link.resolve().name == f"science-{first.id}"
        second = await place.make("science", "two")
        await place.until(lambda: (link / "share/name").read_text() == "two")
        # what can be gone back to stays
        assert (place.root / f"science-{first.id}").is_dir()
        await place.named.store.environments.set_current("team", "science", first.id)
        await place.until(lambda: (link / "share/name").read_text() == "one")
        await place.named.store.environments.delete_build(second.id)
        await place.make("other", "one")
        await place.until(lambda: not (place.root / f"science-{second.id}").exists())
        await place.named.delete("team", "science", by="ann")
        await place.until(lambda: not link.is_symlink())
        await place.until(lambda: not (place.root / f"science-{first.id}").exists())
        assert (place.root / "envs/other/share/name").read_text() == "one"
