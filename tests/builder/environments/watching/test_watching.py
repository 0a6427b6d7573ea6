"""Files and directories that are watched: real files, and what the kernel tells of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.environments.watching import files
from builder.environments.watching.settings import Polling, WatchSettings
from builder.environments.watching.watching import EnvironmentWatching, Pace
from builder.service import BuilderService
from storage.database.leases import Leases
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import Cause, EnvironmentBuild
from storage.environments.watching.watched import WatchedFile
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service

FAST = Pace(quiet=0.15, poll=0.2, rescan=0.5, retry=0.5)


class Place:
    """A directory that is watched into the namespace `team`."""

    def __init__(self, service: BuilderService, directory: Path, polling: Polling = "auto") -> None:
        assert service.environments is not None
        self.named, self.directory = service.environments, directory
        self.store, self.database = self.named.store, self.named.store.logs._database
        self.polling: Polling = polling

    def watching(self, *paths: Path, recursive: bool = False, pace: Pace = FAST) -> EnvironmentWatching:
        entries = tuple(f"team={path}" for path in paths or (self.directory,))
        settings = WatchSettings(watch=entries, watch_recursive=recursive, watch_polling=self.polling)
        return EnvironmentWatching(self.named, Leases(self.database), settings, pace=pace)

    async def rows(self) -> dict[str, WatchedFile]:
        return {os.path.relpath(row.place.path, self.directory): row for row in await self.store.watched.list_all()}

    async def builds(self) -> list[EnvironmentBuild]:
        ids = await self.store.builds.list_ids(Scope())
        return await self.store.builds.find_many(ids)

    async def until(self, count: int) -> list[EnvironmentBuild]:
        """The builds, when there are so many."""
        async with asyncio.timeout(30):
            while len(found := await self.builds()) < count:
                await asyncio.sleep(0.02)
        assert len(found) == count, found
        return found

    async def error_of(self, path: str, text: str) -> WatchedFile:
        async with asyncio.timeout(30):
            while (row := (await self.rows()).get(path)) is None or text not in (row.error or ""):
                await asyncio.sleep(0.02)
        return row

    async def settle(self) -> None:
        """Long enough for what has been seen to be built, if it were to be."""
        await asyncio.sleep(6 * FAST.rescan)


def write(path: Path, *packages: str, name: str | None = None, **more: object) -> None:
    named = {} if name is None else {"name": name}
    path.write_text(json.dumps({**named, "dependencies": list(packages), **more}))


@contextlib.asynccontextmanager
async def placed(tmp_path: Path, polling: Polling = "auto") -> AsyncIterator[Place]:
    directory = tmp_path / "watched"
    directory.mkdir(exist_ok=True)
    channel = await make_channel(tmp_path / "channel", [Package("one"), Package("two")])
    async with open_service(tmp_path / "data", channel) as service:
        yield Place(service, directory, polling)


@pytest.mark.parametrize("polling", ["auto", "always"])
async def test_files_are_built_when_they_change_and_only_then(tmp_path: Path, polling: Polling) -> None:
    # where the kernel tells of changes, nothing is found without that
    pace = FAST if polling == "always" else replace(FAST, rescan=60)
    async with placed(tmp_path, polling) as place:
        write(place.directory / "first.yaml", "one", name="First")
        async with place.watching(pace=pace).running():
            (first,) = await place.until(1)
            assert (first.namespace, first.name, first.cause, first.created_by) == (
                "team", "First", Cause.WATCH, "condery",
            )  # fmt: skip
            write(place.directory / "second.yml", "one")
            _, second = await place.until(2)
            assert second.name == "second"
            write(place.directory / "first.yaml", "two", name="First")
            assert (await place.until(3))[2].name == "First"
            # written again, and touched: the content is the same
            write(place.directory / "first.yaml", "two", name="First")
            os.utime(place.directory / "second.yml")
            await place.settle()
            (place.directory / "second.yml").unlink()
            async with asyncio.timeout(30):
                while (await place.rows())["second.yml"].gone is None:
                    await asyncio.sleep(0.02)
            # its environment stays
            assert (await place.store.environments.find("team", "second")).last_build == second.id
            write(place.directory / "second.yml", "one")
            await place.settle()
        assert len(await place.builds()) == 3
        rows = await place.rows()
        assert (rows["second.yml"].gone, rows["second.yml"].build) == (None, second.id)
        # and after a restart
        async with place.watching().running():
            await place.settle()
        assert len(await place.builds()) == 3


async def test_many_quick_changes_are_one_build(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        path = place.directory / "environment.yaml"
        async with place.watching().running():
            for number in range(40):
                # as editors write: beside it, then renamed
                write(place.directory / ".environment.yaml.swp", "one", description=str(number))
                os.replace(place.directory / ".environment.yaml.swp", path)
                await asyncio.sleep(0.02)
            await place.until(1)
            await place.settle()
        (build,) = await place.builds()
        assert build.name == "watched"
        assert (await place.store.environments.find("team", "watched")).description == "39"


async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        async with place.watching().running():
            with (place.directory / "slow.yaml").open("w") as file:
                for part in ("dependencies:\n", "- one\n", "- two\n", "description: whole\n"):
                    file.write(part)
                    file.flush()
                    await asyncio.sleep(FAST.quiet / 2)
            await place.until(1)
            await place.settle()
        assert len(await place.builds()) == 1
        assert (await place.store.environments.find("team", "slow")).description == "whole"


async def test_a_broken_file_says_why_until_it_is_mended(tmp_path: Path) -> None:
    async with placed(tmp_path) as place, place.watching().running():
        path = place.directory / "app.yaml"
        write(path, "one", name="app")
        (first,) = await place.until(1)
        write(path, "one", "a b c d", name="app")
        row = await place.error_of("app.yaml", "dependencies[1]: ")
        assert (row.build, row.environment) == (first.id, "app")
        write(path, "one", name="app")
        async with asyncio.timeout(30):
            while (await place.rows())["app.yaml"].error is not None:
                await asyncio.sleep(0.02)
        assert len(await place.builds()) == 1
        write(place.directory / "other.yaml", "two", name="app")
        await place.error_of("other.yaml", "is the environment of")
        write(place.directory / "other.yaml", "two", name="APP")
        await place.error_of("other.yaml", "its images would be team/app")
        (place.directory / "large.yaml").write_bytes(b"#" * (17 << 20))
        await place.error_of("large.yaml", "bytes; at most")
        assert len(await place.builds()) == 1


async def test_a_renamed_file_is_the_same_environment(tmp_path: Path) -> None:
    async with placed(tmp_path) as place, place.watching().running():
        write(place.directory / "app.yaml", "one", name="app")
        (build,) = await place.until(1)
        (place.directory / "app.yaml").rename(place.directory / "new.yaml")
        async with asyncio.timeout(30):
            while "new.yaml" not in await place.rows():
                await asyncio.sleep(0.02)
        assert (await place.rows())["new.yaml"].build == build.id
        assert len(await place.builds()) == 1


async def test_links_out_and_things_that_are_no_files_are_left(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        write(tmp_path / "secret.yaml", "one", name="secret")
        (place.directory / "out.yaml").symlink_to(tmp_path / "secret.yaml")
        (place.directory / "loop.yaml").symlink_to("loop.yaml")
        os.mkfifo(place.directory / "fifo.yaml")
        (place.directory / "deep").mkdir()
        write(place.directory / "deep/environment.yaml", "one")
        (place.directory / "up").symlink_to("/")
        (place.directory / ".hidden.yaml").write_text("a: b")
        (place.directory / "notes.txt").write_text("no environment")
        # as Kubernetes mounts a ConfigMap
        (place.directory / "..2026").mkdir()
        write(place.directory / "..2026/mounted.yaml", "one")
        (place.directory / "..data").symlink_to("..2026")
        (place.directory / "mounted.yaml").symlink_to("..data/mounted.yaml")
        async with place.watching().running():
            (build,) = await place.until(1)
            await place.settle()
        assert build.name == "mounted"
        async with place.watching(recursive=True).running():
            await place.until(2)
            (place.directory / "deep/er").mkdir()
            write(place.directory / "deep/er/environment.yaml", "one")
            await place.until(3)
            await place.settle()
        assert {each.name for each in await place.builds()} == {"mounted", "deep", "er"}
        assert set(await place.rows()) == {"mounted.yaml", "deep/environment.yaml", "deep/er/environment.yaml"}


async def test_a_swapped_file_is_not_read_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.yaml").write_text("secret")
    link = tmp_path / "inside/app.yaml"
    link.symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(files.Changing):
        files.read(str(link), files.find_bound(str(tmp_path / "inside")))


async def test_one_file_by_its_path_and_one_that_comes_later(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        path = place.directory / "any-name"
        async with place.watching(path).running():
            await place.error_of("any-name", "is not there")
            write(path, "one", name="app")
            await place.until(1)
            write(place.directory / "other.yaml", "one", name="other")
            os.replace(place.directory / "other.yaml", path)
            assert (await place.until(2))[1].name == "other"
            assert (await place.rows())["any-name"].error is None


async def test_two_servers_build_once(tmp_path: Path) -> None:
    async with placed(tmp_path) as one, placed(tmp_path) as two:
        async with one.watching().running(), two.watching().running():
            for number in range(5):
                write(one.directory / f"env-{number}.yaml", "one")
            await one.until(5)
            await one.settle()
        assert len(await one.builds()) == 5
        # whoever holds no lease any more, and does not know it yet
        write(one.directory / "late.yaml", "one")
        watches = [each.watching()._looks(each.watching().settings.entries[0]) for each in (one, two)]
        for _ in range(8):
            await asyncio.gather(*(anext(each) for each in watches))
        for each in watches:
            await each.aclose()
        assert len(await one.builds()) == 6


async def test_another_server_takes_over(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        first, second = place.watching(), place.watching()
        async with second.running():
            async with first.running():
                write(place.directory / "app.yaml", "one", name="app")
                await place.until(1)
            write(place.directory / "app.yaml", "two", name="app")
            await place.until(2)


def test_what_is_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(files.Unwatchable, match="more than 2 environment files"):
        files.scan(str(tmp_path), recursive=False)
    monkeypatch.setattr(files, "MOST_SEEN", 2)
    with pytest.raises(files.Unwatchable, match="more than 2 names"):
        files.scan(str(tmp_path), recursive=False)


def test_a_lock_is_built_instead_of_its_manifest(tmp_path: Path) -> None:
    for name in ("pixi.toml", "pixi.lock"):
        (tmp_path / name).touch()
    assert set(files.scan(str(tmp_path), recursive=False).files) == {f"{tmp_path}/pixi.lock"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/science/environment.yaml", "science"),
        ("/srv/science/pixi.lock", "science"),
        ("/srv/envs/analysis.yml", "analysis"),
        ("/srv/envs/analysis.explicit.txt", "analysis"),
        ("/srv/envs/explicit.txt", "envs"),
    ],
)
def test_names_of_files_that_say_none(path: str, name: str) -> None:
    assert files.name_of(path) == name


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/srv/share/a", "nfs4"), ("/srv/other", "ext4"), ("/my disk/a", "fuse.sshfs"), ("/srv/sharex", "ext4")],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    lines = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
        "2 1 0:50 / /srv/share rw shared:1 master:2 - nfs4 host:/x rw",
        "3 1 0:51 / /my\\040disk rw - fuse.sshfs host: rw",
    )
    assert files._find_file_system(path, [line.split() for line in lines]) == kind


@pytest.mark.parametrize("text", ["team", "team=", "=/srv", "Team=/srv", "team=relative", "team/x=/srv"])
def test_what_is_no_entry(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not NAMESPACE=PATH|absolute"):
        WatchSettings(watch=(text,))
