"""One garbage collection at a time, for a data directory and for a database that several machines share.

Two at once would do no harm, since each step checks again what it deletes; they would only do everything twice. A lock
ends with the process that holds it, however that process ends.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database, translate_errors
from storage.database.sql_clock import is_ahead
from storage.errors import GarbageCollectionRunning
from storage.layout import DataDirectory

_KEY = 0x67617262
"""An arbitrary number that no other program on the same database should use."""

_HOLDER = text(
    "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid) "
    "WHERE locktype = 'advisory' AND classid = 0 AND objid = :key AND objsubid = 1 AND granted"
)


@contextlib.contextmanager
def only_here(directory: Path) -> Iterator[None]:
    """Be the only collection in the data directory; raises GarbageCollectionRunning.

    The modification time of the directory's file `collecting` is when a collection last began or ended.
    """
    with _lock(directory) as file:
        _say(file, _who())
        try:
            yield
        finally:
            _say(file, "")


@contextlib.contextmanager
def between_collections(directory: Path) -> Iterator[None]:
    """Keep collections of the data directory from starting; raises GarbageCollectionRunning.

    For a backup, and other work that a collection would disturb. `last_collection` stays as it was.
    """
    is_new = not DataDirectory(directory).collecting.exists()
    with _lock(directory) as file:
        time_ns = 0 if is_new else os.stat(file.fileno()).st_mtime_ns
        _say(file, _who(), time_ns)
        try:
            yield
        finally:
            _say(file, "", time_ns)


def _say(file: IO[bytes], who: str, time_ns: int | None = None) -> None:
    """Write down who holds the lock, and set the file's time to `time_ns` (UNIX nanoseconds) or else to now."""
    file.truncate(0)
    file.write(who.encode())
    # now rather than at the end: a process that dies meanwhile must not leave the time of a collection that never ran
    time_ns = time.time_ns() if time_ns is None else time_ns
    os.utime(file.fileno(), ns=(time_ns, time_ns))


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[IO[bytes]]:
    with open(DataDirectory(directory).collecting, "a+b", buffering=0, opener=_open_private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise GarbageCollectionRunning(file.read(200).decode(errors="replace") or "another process") from None
        yield file


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.asynccontextmanager
async def only_one(database: Database) -> AsyncIterator[None]:
    """Be the only collection of a database that other machines may use; raises GarbageCollectionRunning.

    On SQLite `only_here` already ensures this.
    """
    if database.dialect != "postgresql":
        yield
        return
    with translate_errors():
        # a lock of the session, not of a transaction: an open transaction would keep PostgreSQL from vacuuming
        engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(select(func.set_config("application_name", _who()[:63], False)))
            try:
                if not (await connection.execute(select(func.pg_try_advisory_lock(_KEY)))).scalar():
                    holder = (await connection.execute(_HOLDER, {"key": _KEY})).scalar()
                    raise GarbageCollectionRunning(holder or "another process")
                yield
            finally:
                await _let_go(connection)


async def _let_go(connection: AsyncConnection) -> None:
    """Unlock. A broken connection has lost its lock, and is not used again."""
    with contextlib.suppress(SQLAlchemyError):
        await connection.execute(select(func.pg_advisory_unlock_all()))
        await connection.execute(text("RESET application_name"))


def last_collection(directory: Path) -> float:
    """When a collection of the data directory last began or ended, in UNIX seconds; 0 if none ever did.

    Also 0 for a time in the future: a clock that was ahead wrote it, and it would hold up the next collection.
    """
    try:
        begun = DataDirectory(directory).collecting.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    return 0.0 if is_ahead(begun, time.time()) else begun


def _who() -> str:
    now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()[:20]} since {now}"
