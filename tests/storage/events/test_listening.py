"""A connection that is lost without a word is noticed, and what is said meanwhile is not lost on a good one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.engine import make_url

from storage.events import listening
from tests.support.servers.postgres import Postgres
from tests.support.storage.relay import Relay

pytestmark = pytest.mark.services
DEADLINE = 60
CHANNEL = "condery_test"


class Ears:
    """What a listener was told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.deaf = True
        self._changed = asyncio.Event()

    def hear(self, payload: str) -> None:
        self.heard.append(payload)
        self._changed.set()

    def be_deaf(self, deaf: bool) -> None:
        self.deaf = deaf
        self._changed.set()

    async def until(self, *, deaf: bool) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.deaf != deaf:
                await self._changed.wait()
                self._changed.clear()

    async def until_heard(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.heard) < count:
                await self._changed.wait()
                self._changed.clear()


@pytest.fixture
async def relay(postgres: Postgres) -> AsyncIterator[Relay]:
    relay = Relay(postgres.directory / ".s.PGSQL.5432")
    async with relay.running():
        yield relay


@contextlib.asynccontextmanager
async def listener(postgres: Postgres, relay: Relay) -> AsyncIterator[Ears]:
    url = make_url(postgres.url("postgres")).set(host="127.0.0.1", port=relay.port, query={"sslmode": "disable"})
    ears = Ears()
    task = asyncio.create_task(listening.listen(url, CHANNEL, ears.hear, ears.be_deaf))
    try:
        await ears.until(deaf=False)
        yield ears
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_connection_that_is_lost_in_silence_is_noticed(
    postgres: Postgres, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(listening, "ANSWER_SECONDS", 1.0)
    async with listener(postgres, relay) as ears:
        relay.silent = True
        await ears.until(deaf=True)
        relay.silent = False
        await ears.until(deaf=False)
        await asyncio.to_thread(postgres.execute, f"NOTIFY {CHANNEL}, 'after'")
        await ears.until_heard(1)
        assert ears.heard == ["after"]


async def test_nothing_is_believed_until_a_late_answer_comes(
    postgres: Postgres, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(listening, "ANSWER_SECONDS", 2.0 * DEADLINE)
    async with listener(postgres, relay) as ears:
        relay.flows.clear()
        await ears.until(deaf=True)
        await asyncio.to_thread(postgres.execute, f"NOTIFY {CHANNEL}, 'meanwhile'")
        relay.flows.set()
        await ears.until(deaf=False)
        await ears.until_heard(1)
        assert ears.heard == ["meanwhile"]
        assert relay.connections == 1


def test_a_lost_connection_is_doubted_within_the_two_seconds_of_a_revocation() -> None:
    """As docs/security.md promises."""
    assert listening.SILENT_SECONDS + listening.DOUBT_SECONDS <= 2


async def test_what_is_said_while_the_server_is_asked_is_heard_once(
    postgres: Postgres, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SILENT_SECONDS", 0.0)
    async with listener(postgres, relay) as ears:
        said = [str(number) for number in range(100)]
        for each in said:
            await asyncio.to_thread(postgres.execute, f"NOTIFY {CHANNEL}, '{each}'")
        await ears.until_heard(len(said))
        assert ears.heard == said
        assert relay.connections == 1
