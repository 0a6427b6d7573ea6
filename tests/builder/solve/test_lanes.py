"""Hard solves hold up nobody, and slow ones do not wait for hard ones to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.names.spec import EnvironmentSpec
from builder.solve import lanes
from builder.solve.lanes import Solving, SolvingSettings
from builder.solve.settings import SolverSettings
from builder.work.claims import Caller, Claim, on_behalf_of
from tests.support.builder.solving import spec, stems
from tests.support.servers.slow import make_hard_channel

HARD = range(9)
SLOW = 145
"""Variables of a formula that takes seconds."""
FOR_EVER = 600.0
WITHIN = 60
STRANGER = Caller("stranger")
attackers = pytest.mark.parametrize("attackers", [1, len(HARD)])


@pytest.fixture
def hard(tmp_path: Path) -> list[EnvironmentSpec]:
    make_hard_channel(tmp_path / "hard", [f"hard{number}" for number in HARD])
    return [spec(f"hard{number}", channel=(tmp_path / "hard").as_uri()) for number in HARD]


@pytest.fixture
def slow(tmp_path: Path) -> list[EnvironmentSpec]:
    make_hard_channel(tmp_path / "slow", ["slow0", "slow1"], SLOW)
    return [spec(f"slow{number}", channel=(tmp_path / "slow").as_uri()) for number in range(2)]


def begin(solving: Solving, wish: EnvironmentSpec, caller: Caller) -> asyncio.Task[Any]:
    with on_behalf_of(Claim(caller, lasting=True)):
        return asyncio.create_task(solving.solve(wish))


@contextlib.asynccontextmanager
async def attacked(solving: Solving, hard: list[EnvironmentSpec], count: int) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Solves of this many callers that do not end."""
    tasks = [begin(solving, wish, Caller(f"attacker{n % count}")) for n, wish in enumerate(hard)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not condition():
            await asyncio.sleep(0.02)


@attackers
async def test_nobody_waits_for_the_first_tries_of_others(
    settings: SolverSettings,
    channel: Path,
    hard: list[EnvironmentSpec],
    monkeypatch: pytest.MonkeyPatch,
    attackers: int,
) -> None:
    """Here they last as long as the test."""
    monkeypatch.setattr(lanes, "FIRST_SECONDS", FOR_EVER)
    async with (
        Solving(replace(settings, seconds=FOR_EVER), SolvingSettings(quick=FOR_EVER)) as solving,
        attacked(solving, hard, attackers) as bad,
    ):
        first = solving._first
        await until(lambda: first.taken + first.waiting == len(HARD))
        held = first.taken
        assert held == len(HARD) if attackers > 1 else held < len(HARD), "one caller has a share"
        lock = await asyncio.wait_for(begin(solving, spec("lib", channel=channel.as_uri()), STRANGER), WITHIN)
        assert stems(lock) == ["lib-2.0-cuda_0"]
        assert first.taken == held
        assert not any(task.done() for task in bad)


async def test_what_is_not_done_soon_leaves_the_first_lane_to_others(
    settings: SolverSettings, channel: Path, hard: list[EnvironmentSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FIRST_SECONDS", 0.1)
    async with (
        Solving(replace(settings, seconds=FOR_EVER), SolvingSettings(quick=FOR_EVER)) as solving,
        attacked(solving, hard, len(HARD)) as bad,
    ):
        await until(lambda: solving._second.taken + solving._second.waiting == len(HARD) - 1)
        assert solving._first.taken == 1, "the one that was alone"
        lock = await asyncio.wait_for(begin(solving, spec("lib", channel=channel.as_uri()), STRANGER), WITHIN)
        assert stems(lock) == ["lib-2.0-cuda_0"]
        assert not any(task.done() for task in bad)


async def test_a_slow_solve_needs_no_long_slot(
    settings: SolverSettings, slow: list[EnvironmentSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that is alone, nor one that has a second try."""
    monkeypatch.setattr(lanes, "FIRST_SECONDS", 0.1)
    async with (
        Solving(replace(settings, seconds=FOR_EVER), SolvingSettings(quick=WITHIN)) as solving,
        solving._long.turn(),
    ):
        tasks = [begin(solving, wish, Caller(f"honest{n}")) for n, wish in enumerate(slow)]
        for task in tasks:
            assert len(stems(await asyncio.wait_for(task, 2 * WITHIN))) > SLOW
        assert (solving._long.taken, solving._long.waiting) == (1, 0)
        assert solving._spare._solver, "one of them had its second try in the other process"
