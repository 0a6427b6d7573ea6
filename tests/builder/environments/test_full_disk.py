"""A disk that is full while a build of an environment is made or published: nothing is half there, and it says why."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from builder.build import Builder
from builder.service import BuilderService
from storage.disk.reserve import Reserve, free_bytes
from storage.environments.builds import EnvironmentBuilds
from storage.environments.vocabulary import BuildStatus
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.small_disk import small_disk

STAGES: dict[str, tuple[Any, str]] = {
    "solved": (Builder, "_image_and_key"),
    "published": (EnvironmentBuilds, "publish"),
    "ended": (EnvironmentBuilds, "complete"),
}
"""What is called first when the disk is full."""
PACKAGES = [Package(name, files={"share/name": File(name.encode())}) for name in ("first", *STAGES)]


def fill(directory: Path) -> None:
    """Not a byte is left."""
    with open(directory / "filler", "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert free_bytes(directory) == 0


async def tags_of(service: BuilderService) -> dict[str, str]:
    assert service.environments is not None
    async with service.environments.store.upkeep.database.reading() as connection:
        rows = await connection.exec_driver_sql("SELECT name, digest FROM tag WHERE repository = 'team/science'")
        return {row.name: row.digest for row in rows}


async def test_a_full_disk_leaves_the_build_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.environments.log_writing.PATIENCE", 0.1)
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    with small_disk(tmp_path / "disk", 32) as disk:
        (disk / "data").mkdir()
        reserve = Reserve(disk / "data")
        async with open_service(disk / "data", channel, make_room=reserve.spend) as service:
            named = service.environments
            assert named is not None
            current = await end_of(named, await named.create("team", "science", write_down(service, "first"), by="ann"))
            assert current.status == BuildStatus.COMPLETED
            for stage, (owner, name) in STAGES.items():
                reserve.keep()
                before = await tags_of(service)
                fill_before(monkeypatch, owner, name, disk)
                build = await end_of(named, await named.create("team", "science", write_down(service, stage), by="ann"))
                (disk / "filler").unlink()
                if stage == "ended":
                    # all of it was there, and what is reserved is enough to say so
                    assert (build.status, build.is_current) == (BuildStatus.COMPLETED, True)
                    break
                assert build.status == BuildStatus.FAILED, stage
                assert "no space left" in (build.status_info or ""), build.status_info
                assert (build.lock_key, build.image_key, build.size) == (None, None, 0)
                assert await tags_of(service) == before
                assert (await named.store.environments.find("team", "science")).current_build == current.id
                current = await end_of(named, await named.rebuild(build.id, by="ann"))
                assert (current.status, current.is_current) == (BuildStatus.COMPLETED, True), current.status_info


def fill_before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, disk: Path) -> None:
    """Have the disk filled when a method is called the next time."""
    real: Callable[..., Awaitable[Any]] = getattr(owner, name)
    todo = [disk]

    async def filling(*args: Any, **kwargs: Any) -> Any:
        if todo:
            fill(todo.pop())
        return await real(*args, **kwargs)

    monkeypatch.setattr(owner, name, filling)
