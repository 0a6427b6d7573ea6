"""Pages of 10,000 environments and 100,000 builds, as the REST API asks the database for them (SQLite)."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bench.row import Row
from storage.database.account_tables import namespace
from storage.database.environment_tables import environment, environment_build, lock_package, specification
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import BuildFilter, BuildStatus, EnvironmentFilter, Listed, Paging
from storage.settings import StorageSettings
from storage.store import Store, open_store

MUST_MS = 50
ENVIRONMENTS = 10_000
BUILDS = 10
"""Of each environment."""
NAMESPACES = 50
LOCKS = 5_000
ROUNDS = 11

Ask = Callable[[], Awaitable[Listed[Any]]]


def measure(*, short: bool = False) -> list[Row]:
    """The median of each page, and the longest of all."""
    return asyncio.run(_measure(ENVIRONMENTS // 100 if short else ENVIRONMENTS))


async def _measure(count: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        async with open_store(StorageSettings(data_directory=Path(directory))) as store:
            await _fill(store, count)
            return [await _time(name, ask, count) for name, ask in _questions(store, count).items()]


async def _fill(store: Store, count: int) -> None:
    now = time.time()
    names = [{"name": f"team{number:02}", "created": now, "created_by": "a"} for number in range(NAMESPACES)]
    packages = [
        {"lock_key": f"{lock:064x}", "name": f"package{(lock * 7 + number) % 500}"}
        for lock in range(LOCKS)
        for number in range(40)
    ]
    row: dict[str, Any] = {"name": "x", "document": "{}", "request": "{}", "created": now}
    environments = [
        {
            "id": number + 1,
            "namespace": f"team{number % NAMESPACES:02}",
            "name": f"analysis-{number}",
            "repository": f"team{number % NAMESPACES:02}/analysis-{number}",
            "current_build": number * BUILDS + BUILDS,
            "last_build": number * BUILDS + BUILDS,
            "created": now,
            "created_by": "a",
        }
        for number in range(count)
    ]
    builds = [
        {
            "id": number + 1,
            "environment": number // BUILDS + 1,
            "specification": 1,
            "status": "FAILED" if number % 20 == 0 else "COMPLETED",
            "cause": "REQUEST",
            "lock_key": f"{number % LOCKS:064x}",
            "scheduled": now + number,
            "started": now + number,
            "ended": now + number,
            "created_by": "a",
        }
        for number in range(count * BUILDS)
    ]
    async with store.database.writing() as connection:
        await connection.execute(insert(namespace), names)
        await connection.execute(insert(lock_package), packages)
        await connection.execute(insert(environment), environments)
        await connection.execute(insert(specification), [{**row, "environment": 1, "sha256": "0" * 64}])
        await connection.execute(insert(environment_build), builds)


def _questions(store: Store, count: int) -> Mapping[str, Ask]:
    lists, builds, everything = store.environments.environments, store.environments.builds, Scope()
    page, newest = Paging(0, 100, "namespace"), Paging(0, 100, "scheduled_on", descending=True)
    package = EnvironmentFilter(packages=("package7",))
    return {
        "environments, the first page": lambda: lists.list_all(everything, None, page),
        "environments, the last page": lambda: lists.list_all(everything, None, Paging(count - 100, 100, "namespace")),
        "environments, a part of the name": lambda: lists.list_all(
            everything, EnvironmentFilter(search="SIS-99"), page
        ),
        "environments with a package": lambda: lists.list_all(everything, package, page),
        "environments by state": lambda: lists.list_all(everything, EnvironmentFilter(status=BuildStatus.FAILED), page),
        "builds, the newest": lambda: builds.list_all(everything, None, newest),
        "builds, the last page": lambda: builds.list_all(everything, None, Paging(count * BUILDS - 100, 100)),
        "builds of an environment": lambda: builds.list_all(
            everything, BuildFilter(namespace="team07", name="analysis-7"), newest
        ),
        "builds of a namespace": lambda: builds.list_all(everything, BuildFilter(namespace="team07"), newest),
        "builds by state": lambda: builds.list_all(everything, BuildFilter(status=BuildStatus.FAILED), newest),
        "builds with a package": lambda: builds.list_all(everything, BuildFilter(packages=("package7",)), newest),
    }


async def _time(name: str, ask: Ask, count: int) -> Row:
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        listed = await ask()
        times.append((time.perf_counter() - begun) * 1000)
    note = f"{listed.count:,} match; {count:,} environments, {count * BUILDS:,} builds; longest {max(times):.0f} ms"
    return Row(name, statistics.median(times), "ms", MUST_MS, "at most", note=note)
