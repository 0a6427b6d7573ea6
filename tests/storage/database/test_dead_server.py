"""A database server whose machine is gone, and so says nothing: queries end all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from storage.database import engine
from storage.database.engine import Database, connect_arguments
from storage.errors import StorageUnavailable
from tests.support.servers.postgres import Postgres
from tests.support.storage.relay import Relay

DEADLINE = 60


@pytest.fixture
async def machine(postgres: Postgres) -> AsyncIterator[Relay]:
    machine = Relay(postgres.directory / ".s.PGSQL.5432")
    async with machine.running():
        yield machine


@pytest.fixture
async def database(postgres: Postgres, machine: Relay, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(engine, "SILENT_SECONDS", 2)
    url = make_url(postgres.url("postgres")).set(host="127.0.0.1", port=machine.port, query={"sslmode": "disable"})
    opened = Database.open(url.render_as_string(hide_password=False))
    yield opened
    await opened.close()


@pytest.mark.services
async def test_a_query_that_does_not_arrive_fails(database: Database, machine: Relay) -> None:
    async def ask() -> None:
        async with database.reading() as connection:
            await connection.execute(text("SELECT 1"))
            machine.die()
            await connection.execute(text("SELECT 2"))

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StorageUnavailable):
            await ask()
        # and another connection is made
        await database.ping()


@pytest.mark.services
async def test_a_query_whose_answer_does_not_come_fails(database: Database, machine: Relay) -> None:
    async def ask() -> None:
        async with database.reading() as connection:
            await connection.execute(text("SELECT pg_sleep(600)"))

    async with asyncio.timeout(DEADLINE):
        asking = asyncio.create_task(ask())
        while not await _is_asked(database):
            await asyncio.sleep(0.05)
        machine.die()
        with pytest.raises(StorageUnavailable):
            await asking


async def _is_asked(database: Database) -> bool:
    query = text("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    async with database.reading() as connection:
        return (await connection.execute(query)).first() is not None


def test_the_address_has_the_last_word() -> None:
    arguments = connect_arguments("postgresql+psycopg://db/condery?tcp_user_timeout=60000&connect_timeout=5")
    assert arguments.keys() == {"keepalives_idle", "keepalives_interval", "keepalives_count"}
