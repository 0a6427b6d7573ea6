"""Locks of very many packages are worked on beside the event loop, which serves others meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from builder.channels import policy
from builder.environments import difference, previews
from builder.locks.aside import LARGE
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec, PackageItem
from registry.api.environments import differences, planning
from storage.database.environment_tables import environment_build
from storage.environments.vocabulary import BuildStatus
from tests.support.registry.environments import Place, serving_environments

COUNT = LARGE + 1
PATIENCE = 10.0
"""Seconds: a loop that waits for what is measured never turns again before it ends."""


class Turns:
    """Counts the calls of watched functions, by whether the loop went on before they returned."""

    def __init__(self) -> None:
        self.beside: Counter[str] = Counter()
        self.within: Counter[str] = Counter()
        self._turned = threading.Event()

    @contextlib.asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        async def turn() -> None:
            while True:
                self._turned.set()
                await asyncio.sleep(0.001)

        task = asyncio.create_task(turn())
        try:
            yield
        finally:
            task.cancel()

    def watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._turned.clear()
            result = real(*args, **kwargs)
            (self.beside if self._turned.wait(PATIENCE) else self.within)[name] += 1
            return result

        is_bound = isinstance(owner, type) and hasattr(real, "__self__")
        monkeypatch.setattr(owner, name, staticmethod(watched) if is_bound else watched)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    turns = Turns()
    for owner, name in (
        (policy.ChannelPolicy, "check_lock"),
        (previews, "compare"),
        (differences, "compare"),
        (planning, "write_plan"),
        (differences, "write_differences"),
    ):
        turns.watch(monkeypatch, owner, name)
    return turns


def list_packages(channel: str, version: str) -> str:
    hashes = (hashlib.md5(f"{number} {version}".encode()).hexdigest() for number in range(COUNT))
    lines = (f"{channel}/noarch/package-{number}-{version}-0.conda#{each}" for number, each in enumerate(hashes))
    return "\n".join(["@EXPLICIT", "# platform: linux-64", *lines])


async def test_the_loop_goes_on(tmp_path: Path, turns: Turns) -> None:
    async with serving_environments(tmp_path, served=True) as place, turns.counting():
        text = list_packages(place.channel, "1")
        document = {"specification": text, "namespace": "team", "environment_name": "science", "is_lockfile": True}
        plan = (await place.ask("POST", "solve/", document)).data
        assert len(plan["platforms"]["linux-64"]["packages"]) == COUNT
        for name in ("check_lock", "compare", "write_plan"):
            assert turns.beside.pop(name) == 1, name
        build = (await place.ask("POST", "specification/", document)).data["build_id"]
        assert turns.beside.pop("check_lock") == 1
        # its packages are nowhere
        assert (await place.end_of(build))["status"] == "FAILED"
        handle = await place.ask("POST", "image/", {"specification": text, "is_lockfile": True})
        assert (handle.status, "cannot be downloaded" in handle.message) == (400, True)
        assert turns.beside.pop("check_lock") == 1
        assert not turns.within


async def test_what_is_stored_is_compared_beside_the_loop(tmp_path: Path, turns: Turns) -> None:
    async with serving_environments(tmp_path) as place, turns.counting():
        builds = [(await place.make("science", each))["id"] for each in ("one", "two")]
        for build, version in zip(builds, ("1", "2"), strict=True):
            await give_lock(place, build, version)
        found = (await place.get(f"build/{builds[1]}/difference/")).data
        assert len(found["platforms"]["linux-64"]["up"]) == COUNT
        assert turns.beside == {"compare": 1, "write_differences": 1}
        assert not turns.within


async def give_lock(place: Place, build: int, version: str) -> None:
    """Let a build have a large lock, of packages that are nowhere."""
    locks = place.named.builder.catalog.locks
    found = await place.named.store.builds.find(build)
    assert (found.status, found.lock_key is not None) == (BuildStatus.COMPLETED, True)
    document = await locks.find(found.lock_key or "")
    assert document is not None
    [(platform, [package])] = document["packages"].items()
    names = (f"package-{number}" for number in range(COUNT))
    document["packages"] = {platform: [{**package, "name": name, "version": version} for name in names]}
    lock = Lock.from_json(json.loads(json.dumps(document)))
    await locks.put(lock.key, lock.spec.key, lock.to_json())
    async with place.parts.blobs.database.writing() as connection:
        row = environment_build
        await connection.execute(update(row).where(row.c.id == build).values(lock_key=lock.key))


def test_watching_sees_what_is_done_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests look for would be found."""
    monkeypatch.setattr(f"{__name__}.PATIENCE", 0.05)
    turns = Turns()
    turns.watch(monkeypatch, difference, "compare")

    async def hold() -> None:
        async with turns.counting():
            await asyncio.sleep(0.01)
            difference.compare(None, Lock(EnvironmentSpec((PackageItem("one"),), ("here",)), {}))

    asyncio.run(hold())
    assert (turns.within, turns.beside) == ({"compare": 1}, {})
