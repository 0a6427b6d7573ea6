"""Dates of packages in every form that a channel may write: the solver and whoever checks a stored lock read the same.

A package whose date is none is never old enough, and neither is one whose index cannot be read.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import PolicyRefusal
from builder.locks.dates import EARLIEST, Dates, read_dates, read_record_dates
from builder.locks.description import find_newest
from builder.locks.lock import Lock, LockedPackage
from builder.policy.policy import Policy, check_lock
from builder.policy.settings import PolicySettings
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from storage.errors import ConderyError
from tests.support.builder.locks import package
from tests.support.builder.packages import Package, write_channel
from tests.support.builder.solving import ANY_CHANNEL, spec, stems

NOW = int(time.time())
YOUNG = NOW - 3600
OLD = NOW - 40 * 86_400
COOLDOWN = Policy((PolicySettings(cooldown_days=7).make_rules("https://conda.example.org"),))

READABLE: list[tuple[dict[str, Any], bool]] = [
    ({"timestamp": YOUNG}, False),
    ({"timestamp": YOUNG * 1000}, False),
    ({"timestamp": OLD}, True),
    ({"timestamp": OLD * 1000}, True),
    ({"timestamp": OLD * 1000 + 123}, True),
    ({"timestamp": 0}, False),
    ({"timestamp": 1}, False),
    ({"timestamp": -5}, False),
    # in seconds 1976, of which the same number of milliseconds would be seconds again
    ({"timestamp": 200_000_000}, False),
    ({"timestamp": None}, False),
    ({}, False),
    ({"timestamp": (NOW + 30 * 86_400) * 1000}, False),
    ({"timestamp": NOW + 30 * 86_400}, False),
    ({"timestamp": OLD, "indexed_timestamp": YOUNG}, False),
    ({"timestamp": OLD, "indexed_timestamp": YOUNG * 1000}, False),
    ({"timestamp": YOUNG, "indexed_timestamp": OLD}, True),
    ({"timestamp": YOUNG, "indexed_timestamp": OLD * 1000}, True),
    ({"timestamp": YOUNG, "indexed_timestamp": 0}, False),
    ({"timestamp": YOUNG, "indexed_timestamp": 1}, False),
    ({"timestamp": YOUNG, "indexed_timestamp": -5}, False),
    ({"timestamp": YOUNG, "indexed_timestamp": -OLD * 1000}, False),
    ({"timestamp": OLD, "indexed_timestamp": 0}, True),
    ({"timestamp": OLD, "indexed_timestamp": NOW + 30 * 86_400}, False),
    ({"indexed_timestamp": 200_000_000}, False),
]
"""What a record says, and whether it is old enough."""

UNREADABLE: list[dict[str, Any]] = [
    {name: value}
    for name in ("timestamp", "indexed_timestamp")
    for value in (1.5e9, 1.5e12, str(OLD), "2020-01-01T00:00:00Z", True, [OLD], 1 << 53, 1 << 62, 1 << 63, 1 << 70)
] + [{"timestamp": -OLD * 1000}]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A package for each of the forms, `dated-NUMBER`."""
    directory = tmp_path_factory.mktemp("channel")
    forms = [fields for fields, _ in READABLE] + UNREADABLE
    write_channel(directory, [Package(f"dated-{number}", timestamp=None) for number in range(len(forms))])
    index = directory / "linux-64" / "repodata.json"
    document = json.loads(index.read_text())
    for number, fields in enumerate(forms):
        document["packages.conda"][f"dated-{number}-1.0-0.conda"] |= fields
    index.write_text(json.dumps(document))
    return directory.as_uri()


@pytest.fixture
async def solver(tmp_path: Path) -> AsyncIterator[Solver]:
    async with Solver(SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0)) as running:
        yield running


async def test_solver_and_stored_lock_read_the_same(solver: Solver, channel: str) -> None:
    for number, (fields, old) in enumerate(READABLE):
        wish = spec(f"dated-{number}", channel=channel)
        try:
            found = stems(await solver.solve(wish, policy=COOLDOWN))
        except PolicyRefusal:
            found = []
        assert bool(found) == old, fields
        lock = Lock.from_json(json.loads(json.dumps((await solver.solve(wish)).to_json())))
        assert passes(lock) == old, fields


async def test_what_cannot_be_read_is_not_taken(solver: Solver, channel: str) -> None:
    for number, _ in enumerate(UNREADABLE, len(READABLE)):
        wish = spec(f"dated-{number}", channel=channel)
        for policy in (COOLDOWN, Policy()):
            with pytest.raises(ConderyError):
                await solver.solve(wish, policy=policy)


async def test_a_lock_has_milliseconds(solver: Solver, channel: str) -> None:
    """So what is made of it has the true date of its newest package."""
    forms = [{"timestamp": YOUNG}, {"timestamp": OLD * 1000 + 123}, {"timestamp": 0}]
    for fields, expected in zip(forms, (YOUNG * 1000, OLD * 1000 + 123, 0), strict=True):
        number = next(number for number, (each, _) in enumerate(READABLE) if each == fields)
        packages = (await solver.solve(spec(f"dated-{number}", channel=channel))).packages["linux-64"]
        assert packages[0].timestamp == (expected or None)
        assert find_newest(packages) == expected


def stored(**fields: Any) -> Lock:
    return Lock(spec("a", channel="conda-forge"), {"linux-64": (package("a", **fields),)})


def passes(lock: Lock) -> bool:
    try:
        check_lock(COOLDOWN, lock, NOW)
    except PolicyRefusal:
        return False
    return True


@pytest.mark.parametrize(("fields", "old"), READABLE)
def test_a_lock_that_has_what_its_channel_wrote(fields: dict[str, Any], old: bool) -> None:
    lock = stored(timestamp=fields.get("timestamp"), since=fields.get("indexed_timestamp"))
    assert passes(lock) == old
    again = Lock.from_json(json.loads(json.dumps(lock.to_json())))
    assert passes(again) == old
    assert again.packages["linux-64"][0].since == fields.get("indexed_timestamp")


def test_the_key_of_a_lock_stays() -> None:
    """A stored lock is found by it, whatever its channel wrote."""
    ordinary, seconds = stored(timestamp=OLD * 1000), stored(timestamp=OLD)
    for lock in (ordinary, seconds):
        assert Lock.from_json(lock.to_json()).key == lock.key
    assert ordinary.key != seconds.key
    assert find_newest(seconds.packages["linux-64"]) == find_newest(ordinary.packages["linux-64"])
    assert find_newest([replace(package("a"), timestamp=-5)]) == 0


@given(st.integers(EARLIEST, 253_370_764_800_000))
def test_ordinary_dates_are_kept_to_the_millisecond(milliseconds: int) -> None:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    assert read_record_dates(moment, None) == Dates(milliseconds, None)
    assert read_record_dates(None, moment) == Dates(None, milliseconds)
    assert read_dates(milliseconds, milliseconds) == Dates(milliseconds, milliseconds)


@given(st.one_of(st.none(), st.integers()), st.one_of(st.none(), st.integers()))
def test_dates_that_were_read_are_read_again_as_the_same(timestamp: int | None, since: int | None) -> None:
    once = read_dates(timestamp, since)
    assert read_dates(*once) == once


def test_a_locked_package_reads_its_own() -> None:
    found: LockedPackage = package("a", timestamp=OLD, since=YOUNG)
    assert found.dates == Dates(OLD * 1000, YOUNG * 1000)
    assert found.dates.age_start == YOUNG * 1000
