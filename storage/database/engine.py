"""The database engine and its transactions: SQLite beside the blobs, or PostgreSQL, with one schema for both."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import structlog
from sqlalchemy import BigInteger, Connection, Table, create_engine, func, inspect, literal, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from storage.cancellation import to_end
from storage.database.sqlite_engine import BUSY_SECONDS, WRITES, open_sqlite_engine
from storage.database.write_line import WriteLine
from storage.errors import ServerStopping, StorageBusy, StorageFull, StorageUnavailable
from storage.layout import DataDirectory

if TYPE_CHECKING:
    from alembic.config import Config

CONNECT_SECONDS = 10
SILENT_SECONDS = 30
"""After so long a connection ends whose other machine no longer confirms what it gets, or that it is there."""
PROBES = 3
POOL_SIZE = 20
CLOSE_SECONDS = BUSY_SECONDS + 5.0
"""For so long `close` waits for transactions that are open: a statement may wait for another process's lock."""
RETRY_AFTER = 5
MOST_PARAMETERS = 10_000
"""Parameters in one statement. PostgreSQL takes 65,535, SQLite's usual builds 32,766."""
MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))
"""The last revision. Asking Alembic for it would slow down every start."""

T = TypeVar("T")

log = structlog.get_logger(__name__)

_FULL = ("database or disk is full", "No space left on device", "could not extend file")


class Database:
    """Transactions. Each raises StorageFull, StorageUnavailable or StorageBusy if the database cannot be used."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._line = WriteLine(BUSY_SECONDS) if self.dialect == "sqlite" else None
        self._used = 0
        """Connections in use."""
        self._unused = asyncio.Event()
        """Set when the last one is given back."""
        self._is_closing = False

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at `url`; `migrate` must have brought it up to date."""
        return cls(open_engine(url))

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    async def close(self) -> None:
        """Close all connections once the transactions on them have ended; new ones fail with ServerStopping.

        The pool forgets a connection that is in use when it is disposed of, and nobody would close it. A task that is
        cancelled may have one for some time, since its statement runs to the end.
        """
        await to_end(self._close())

    async def _close(self) -> None:
        self._is_closing = True
        if self._used:
            self._unused.clear()
            try:
                await asyncio.wait_for(self._unused.wait(), CLOSE_SECONDS)
            except TimeoutError:
                log.warning("the database is closed while it is in use", connections=self._used)
        await self.engine.dispose()

    async def ping(self) -> None:
        async with self.reading() as connection:
            await connection.execute(select(1))

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction that reads one consistent view of the database."""
        with translate_errors():
            async with self._connected() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction that writes: all or nothing, and on stable storage when the block has ended.

        On SQLite it holds the one write lock from the beginning, so what it reads stays true until it ends; another
        one must not begin inside of it. On PostgreSQL that holds only for the rows that it has updated.
        """
        with translate_errors():
            async with self._line.turn() if self._line else contextlib.nullcontext(), self._connected() as connection:
                await connection.execution_options(**{WRITES: True})
                transaction = connection.begin()
                await self._to_end(transaction.start())
                yield connection
                await self._to_end(transaction.commit())

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """Take a connection, and roll back at the end what was not committed."""
        if self._is_closing:
            raise ServerStopping
        connection = self.engine.connect()
        self._used += 1
        try:
            # with a connection at hand nothing waits, so nobody can be cancelled, and a task of its own takes longer
            await (connection.start() if self._has_idle() else self._to_end(connection.start()))
            yield connection
        finally:
            try:
                if connection.sync_connection is not None:
                    await to_end(self._give_back(connection))
            finally:
                self._used -= 1
                if not self._used:
                    self._unused.set()

    async def _give_back(self, connection: AsyncConnection) -> None:
        if self._is_closing:
            # its pool may be gone, and then nobody would close it
            await connection.invalidate()
        await connection.close()

    def _has_idle(self) -> bool:
        pool = self.engine.pool
        return self._line is not None and isinstance(pool, QueuePool) and pool.checkedin() > 0

    async def _to_end(self, work: Awaitable[T]) -> T:
        """Await `work`. On SQLite a cancelled caller waits for its end, since a statement does as well."""
        return await (to_end(work) if self._line else work)

    async def lock(self, connection: AsyncConnection, name: str) -> None:
        """Hold the lock `name` until the transaction ends; other writing transactions that want it wait."""
        if self.dialect == "postgresql":
            # not a checksum: a client could choose names that share the lock of somebody else's
            key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
            await connection.execute(select(func.pg_advisory_xact_lock(literal(key, BigInteger))))

    def insert(self, table: Table) -> Any:
        """The dialect's `insert`, with `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return _inserting(self.dialect)(table)


@contextlib.contextmanager
def translate_errors() -> Any:
    """Turn the drivers' errors for an unusable database into ours; errors of wrong statements pass unchanged."""
    try:
        yield
    except PoolTimeout:
        raise StorageBusy("too many requests wait for the database", RETRY_AFTER) from None
    except (OperationalError, InterfaceError) as error:
        raise _translate(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _translate(error) from error
        raise


def _translate(error: DBAPIError) -> StorageFull | StorageUnavailable:
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if any(each in reason for each in _FULL):
        return StorageFull("the database in the data directory" if _is_sqlite(error) else "the database")
    return StorageUnavailable("the database", reason)


def _is_sqlite(error: DBAPIError) -> bool:
    return isinstance(error.orig, sqlite3.Error)


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield `items` in lists short enough to be the parameters of one statement."""
    rest = iter(items)
    while batch := list(itertools.islice(rest, MOST_PARAMETERS)):
        yield batch


def _inserting(dialect: str) -> Callable[[Table], Any]:
    """Import the dialect only when it is used: PostgreSQL's imports all its driver modules, which slows a start."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert
    from sqlalchemy.dialects import sqlite

    return sqlite.insert


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def database_url(given: str | None, directory: Path) -> str:
    """The database's URL with its driver: `given`, or else SQLite in `directory`."""
    if given is None:
        return sqlite_url(DataDirectory(directory).database)
    url = make_url(given)
    drivers = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite+aiosqlite"}
    return url.set(drivername=drivers.get(url.drivername, url.drivername)).render_as_string(hide_password=False)


def open_engine(url: str) -> AsyncEngine:
    """Make an engine for `url`, whose database `migrate` has brought up to date.

    Its errors show no parameters, which may be keys and hashes and would be in the log.
    """
    if make_url(url).get_backend_name() == "sqlite":
        return open_sqlite_engine(url)
    return create_async_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        connect_args=connect_arguments(url),
    )


def connect_arguments(url: str) -> dict[str, int]:
    """What PostgreSQL's client library is told of every connection, unless the query of `url` says otherwise.

    A machine that is gone need not say so. By the system's defaults a query would wait for it for a quarter of an hour
    if it was on its way, and for hours if it had arrived.
    """
    seconds = max(SILENT_SECONDS // (PROBES + 1), 1)
    arguments = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": SILENT_SECONDS * 1000,
        "keepalives_idle": seconds,
        "keepalives_interval": seconds,
        "keepalives_count": PROBES,
    }
    return {name: value for name, value in arguments.items() if name not in make_url(url).query}


def migrate(url: str) -> None:
    """Bring the database at `url` to the newest revision. Blocks; several processes may run it at once.

    Raises StorageUnavailable.
    """
    with translate_errors():
        _migrate(url)


def _migrate(url: str) -> None:
    arguments = {} if make_url(url).get_backend_name() == "sqlite" else connect_arguments(url)
    engine = create_engine(url.replace("+aiosqlite", ""), hide_parameters=True, connect_args=arguments)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
                _write_ahead(connection)
            if _revision(connection) == NEWEST:
                return
            connection.rollback()
            if engine.dialect.name == "sqlite":
                # SQLite's DDL is outside the driver's implicit transactions, so take the write lock before looking
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            _upgrade(connection)
            connection.commit()
    finally:
        engine.dispose()


_MIGRATION_LOCK = 0x636F6E64
"""An arbitrary number that no other program on the same database should use."""


def _write_ahead(connection: Connection) -> None:
    """Set SQLite to write-ahead logging, so that readers and a writer do not block each other. The file remembers it.

    If several connections set it at once, SQLite refuses all but one immediately, whatever the busy timeout.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _revision(connection: Connection) -> str | None:
    """The database's revision; None for a new database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # imported only when needed, since it would slow down every start
    from alembic import command

    command.upgrade(migrations(connection), NEWEST)


def migrations(connection: Connection | None = None) -> Config:
    """Alembic's configuration; its commands use `connection` if one is given."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
