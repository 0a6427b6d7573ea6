"""A database server whose machine is gone, and so says nothing: queries end all the same."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from storage.database import engine
from storage.database.engine import Database, connect_arguments
from storage.errors import StorageUnavailable
from tests.support.servers.postgres import Postgres

DEADLINE = 60
SO_ATTACH_FILTER = 26
RETURN = 6
"""The instruction of a packet filter; it returns how many bytes to keep."""


class Machine:
    """Passes bytes on between a TCP port and a server's socket until it dies: then not even its kernel answers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.port = 0
        self._sockets: list[socket.socket] = []
        self._passing: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._passing:
                task.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sockets.append(writer.get_extra_info("socket"))
        there, back = await asyncio.open_unix_connection(self._path)
        for each in (self._pass(reader, back), self._pass(there, writer)):
            self._passing.add(asyncio.create_task(each))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
        finally:
            writer.close()

    def die(self) -> None:
        """Whatever comes from now on is dropped before TCP sees it."""
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 0))
        for each in self._sockets:
            each.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(nothing)))


@pytest.fixture
async def machine(postgres: Postgres) -> AsyncIterator[Machine]:
    machine = Machine(postgres.directory / ".s.PGSQL.5432")
    async with machine.running():
        yield machine


@pytest.fixture
async def database(postgres: Postgres, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(engine, "SILENT_SECONDS", 2)
    url = make_url(postgres.url("postgres")).set(host="127.0.0.1", port=machine.port, query={"sslmode": "disable"})
    opened = Database.open(url.render_as_string(hide_password=False))
    yield opened
    await opened.close()


@pytest.mark.services
async def test_a_query_that_does_not_arrive_fails(database: Database, machine: Machine) -> None:
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
async def test_a_query_whose_answer_does_not_come_fails(database: Database, machine: Machine) -> None:
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
