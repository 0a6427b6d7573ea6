"""The rows that 10,000 environments with ten builds each leave in a database, half of them in one namespace."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Table, create_engine, insert
from sqlalchemy.engine import make_url

from storage.database.account_tables import namespace
from storage.database.engine import migrate
from storage.database.environment_tables import (
    environment,
    environment_build,
    listed_lock,
    package_locks,
    specification,
)

BUILDS = 10
"""Of each environment."""
NAMESPACES = 2_000
LARGE = "team0000"
"""The namespace that has half of the environments."""
SEED = 11
_BITS = 1024
_AT_ONCE = 5_000

COMMON = {"python": 8, "pip": 8, "setuptools": 6, "numpy": 1}
"""Packages that most locks have: all but one of 2**n. Of the others a lock has a sixteenth."""
OTHERS = 600


def fill(url: str, environments: int) -> None:
    """Fill an empty database."""
    migrate(url)
    chance = random.Random(SEED)
    engine = create_engine(make_url(url).set(drivername=make_url(url).drivername.replace("+aiosqlite", "")))
    with engine.begin() as connection:
        _insert(connection, namespace, ({"name": each, **_made()} for each in _names()))
        _insert(connection, environment, _environments(environments))
        row = {"name": "x", "document": "{}", "request": "{}", "created": time.time(), "sha256": "0" * 64}
        _insert(connection, specification, iter([{**row, "environment": 1}]))
        _insert(connection, environment_build, _builds(environments, chance))
        locks = environments * BUILDS // 2
        _insert(connection, listed_lock, ({"number": each, "lock_key": f"{each:064x}"} for each in range(1, locks + 1)))
        _insert(connection, package_locks, _packages(locks, chance))
    if engine.dialect.name == "postgresql":
        # as its autovacuum does soon after so many rows
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def _insert(connection: Connection, table: Table, rows: Iterator[Mapping[str, Any]]) -> None:
    waiting = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == _AT_ONCE:
            connection.execute(insert(table), waiting)
            waiting = []
    if waiting:
        connection.execute(insert(table), waiting)


def _made() -> dict[str, Any]:
    return {"created": time.time(), "created_by": "a"}


def _names() -> list[str]:
    return [f"team{number:04}" for number in range(NAMESPACES)]


def _environments(count: int) -> Iterator[Mapping[str, Any]]:
    for number in range(count):
        of = LARGE if number % 2 else f"team{number // 2 % NAMESPACES:04}"
        yield {
            "id": number + 1,
            "namespace": of,
            "name": f"analysis-{number}",
            "repository": f"{of}/analysis-{number}",
            "current_build": number + 1 + count * (BUILDS - 1),
            "last_build": number + 1 + count * (BUILDS - 1),
            **_made(),
        }


def _builds(environments: int, chance: random.Random) -> Iterator[Mapping[str, Any]]:
    """One of each environment after the other, each lock in two of them."""
    now, locks = time.time() - 10**6, environments * BUILDS // 2
    for number in range(environments * BUILDS):
        status = chance.choices(("COMPLETED", "FAILED", "CANCELED", "QUEUED"), (940, 50, 9, 1))[0]
        complete, lock = status == "COMPLETED", number % locks + 1
        yield {
            "id": number + 1,
            "environment": number % environments + 1,
            "specification": 1,
            "status": status,
            "cause": "REQUEST",
            "lock_key": f"{lock:064x}" if complete else None,
            "lock_number": lock if complete else None,
            "image_key": f"{lock:064x}" if complete else None,
            "size": 10**8 + lock if complete else 0,
            "scheduled": now + number,
            "started": None if status == "QUEUED" else now + number + chance.random() * 100,
            "ended": None if status == "QUEUED" else now + number + 100 + chance.random() * 1000,
            "created_by": "a",
        }


def _packages(locks: int, chance: random.Random) -> Iterator[Mapping[str, Any]]:
    for name in (*COMMON, *(f"package{number}" for number in range(OTHERS)), "rare"):
        for block in range(locks // _BITS + 1):
            missing, present = 0, (1 << _BITS) - 1
            if name in COMMON:
                missing = present
                for _ in range(COMMON[name]):
                    missing &= chance.getrandbits(_BITS)
            else:
                for _ in range(4 if name != "rare" else 9):
                    present &= chance.getrandbits(_BITS)
            bits = present & ~missing
            yield {"name": name, "block": block, "bits": bits.to_bytes(_BITS // 8, "little")}
