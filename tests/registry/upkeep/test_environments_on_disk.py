"""A server keeps the directories of environments as the environments are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from builder.environments.directories.settings import DirectorySettings
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.reading import read_input
from builder.environments.life import NamedEnvironments
from builder.settings import BuilderSettings
from registry.api.environments.writing import write_whole_build
from registry.app import create_app
from registry.parts import PARTS
from registry.settings.model import Settings
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import BuildFilter, EnvironmentBuild, Paging
from storage.settings import StorageSettings
from tests.support.builder.named import end_of
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel
from tests.support.small_disk import small_disk


class Place:
    def __init__(self, named: NamedEnvironments, builder: BuilderSettings, root: Path) -> None:
        self.named, self.builder, self.root = named, builder, root

    async def show(self, build: EnvironmentBuild) -> dict[str, Any]:
        """The build as the REST API shows it, once its directory is there or cannot be."""
        on_disk = None
        async with asyncio.timeout(60):
            while on_disk is None:
                await asyncio.sleep(0.05)
                on_disk = await self.named.store.on_disk.find(build.id)
        specification = await self.named.store.builds.find_specification(build.specification)
        return write_whole_build(await self.named.store.builds.find(build.id), specification, on_disk)

    async def make(self, name: str, package: str) -> EnvironmentBuild:
        text = json.dumps({"name": name, "dependencies": [package]})
        wanted = read_input(text.encode(), InputSettings.of(self.builder))
        return await end_of(self.named, await self.named.create("team", name, wanted, by="ann"))

    async def until(self, what: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not what():
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, *more: Package) -> AsyncIterator[Place]:
    packages = [*(Package(name, files={"share/name": File(name.encode())}) for name in ("one", "two")), *more]
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
        await place.named.store.environments.change("team", "science", build_id=first.id)
        await place.until(lambda: (link / "share/name").read_text() == "one")
        await place.named.store.environments.delete_build(second.id)
        await place.make("other", "one")
        await place.until(lambda: not (place.root / f"science-{second.id}").exists())
        await place.named.delete("team", "science", by="ann")
        await place.until(lambda: not link.is_symlink())
        await place.until(lambda: not (place.root / f"science-{first.id}").exists())
        assert (place.root / "envs/other/share/name").read_text() == "one"


async def test_a_build_says_where_on_disk_it_is_or_why_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directories are on a disk of their own, which has no room for one package, and no file system for another."""
    monkeypatch.setattr("builder.environments.on_disk.AGAIN_SECONDS", 0.1)
    monkeypatch.setattr("builder.environments.on_disk.LOOK_SECONDS", 0.2)
    large = Package("large", files={"share/name": b"large", "share/large": File(os.urandom(6 << 20))})
    odd = Package("odd", files={f"share/{'o' * 300}": b"odd"})
    with small_disk(tmp_path / "envs", 8) as disk:
        async with serving(tmp_path, large, odd) as place:
            link = place.root / "envs/science"
            first = await place.make("science", "one")
            shown = await place.show(first)
            assert shown["status_info"] is None
            keys = {each["artifact_type"]: each["key"] for each in shown["build_artifacts"]}
            assert keys["DIRECTORY"] == str(place.root / f"science-{first.id}")
            (disk / "filler").write_bytes(bytes(4 << 20))

            for package, reason in (
                ("large", "no space left"),
                ("odd", "has a name of 300 bytes, and file systems take"),
            ):
                build = await place.make("science", package)
                shown = await place.show(build)
                assert (shown["status"], reason in shown["status_info"]) == ("COMPLETED", True), shown["status_info"]
                assert shown["status_info"].startswith("it is not on disk: ")
                assert "DIRECTORY" not in {each["artifact_type"] for each in shown["build_artifacts"]}
                # the old one is still current, and nothing half is beside it
                assert link.resolve().name == f"science-{first.id}"
                assert (link / "share/name").read_text() == "one"
                await place.until(
                    lambda: sorted(each.name for each in place.root.iterdir()) == ["envs", link.resolve().name]
                )

            await place.named.store.environments.change("team", "science", build_id=first.id + 1)
            (disk / "filler").unlink()
            await place.until(lambda: (link / "share/name").read_text() == "large")
            large_build = await place.named.store.builds.find(first.id + 1)
            async with asyncio.timeout(60):
                while (shown := await place.show(large_build))["status_info"] is not None:
                    await asyncio.sleep(0.05)
            assert "DIRECTORY" in {each["artifact_type"] for each in shown["build_artifacts"]}
            found = await place.named.store.builds.list_all(Scope(), BuildFilter(is_on_disk=True), Paging())
            assert [each.id for each in found.items] == [first.id, first.id + 1]
            # a directory that is removed is no artifact any more
            await place.named.store.environments.delete_build(first.id)
            await place.until(lambda: not (place.root / f"science-{first.id}").exists())
            async with asyncio.timeout(60):
                while await place.named.store.on_disk.find(first.id) is not None:
                    await asyncio.sleep(0.05)


async def test_retention_removes_a_directory_once_nothing_runs_from_it_and_never_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.environments.on_disk.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("builder.environments.jobs.LOOK_SECONDS", 0.2)
    async with serving(tmp_path) as place:
        link = place.root / "envs/science"
        directories = []
        for package in ("one", "two", "one"):
            build = await place.make("science", package)
            directories.append(place.root / f"science-{build.id}")
            await place.until(lambda: link.is_symlink() and link.resolve() == directories[-1])
        await place.named.store.environments.change("team", "science", build_id=build.id - 2)
        await place.until(lambda: link.resolve() == directories[0])
        running = await asyncio.create_subprocess_exec("sleep", "600", cwd=directories[1])
        try:
            # of these the last is kept, and the first is the current one
            await place.named.store.settings.change({"kept_builds": 1}, "team")
            async with asyncio.timeout(60):
                while await place.named.store.upkeep.list_kept(build.environment) != [build.id - 2, build.id]:
                    await asyncio.sleep(0.05)
            # looked at several times meanwhile
            await asyncio.sleep(1)
            assert [each.is_dir() for each in directories] == [True, True, True]
        finally:
            running.kill()
            await running.wait()
        await place.until(lambda: not directories[1].exists())
        assert [each.is_dir() for each in directories] == [True, False, True]
        assert (link / "share/name").read_text() == "one"
        assert (link / "conda-meta/frozen").is_file()
