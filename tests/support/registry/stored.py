"""A server's disk and log, read from outside while it runs or after it has died."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from builder.queue.owner import Owner
from storage.blobs.rows import BLOB_COLUMNS, stored_blob
from storage.blobs.store import BlobStore
from storage.database import tables
from storage.database.engine import Database, database_url
from storage.digest import Digest
from storage.disk.files import TEMPORARY
from storage.objects.files import FileObjects
from tests.support.server import Server


@dataclass(frozen=True)
class Build:
    id: str
    status: str
    attempts: int
    owner: str
    error_kind: str | None

    @property
    def pid(self) -> int:
        """The server process that works on it."""
        owner = Owner.parse(self.owner)
        assert owner, self.owner
        return owner.pid


def builds(server: Server) -> list[Build]:
    """Every build in the catalog, the oldest first."""
    address = f"file:{server.data_dir / 'condery.sqlite'}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        rows = connection.execute("SELECT id, status, attempts, owner, error_kind FROM build ORDER BY created")
        return [Build(*row) for row in rows]


LOG_SECONDS = 1.0


def read_log(server: Server, event: str) -> list[dict[str, Any]]:
    """The lines for `event` in the server's log. They come a moment after what they report."""
    deadline = time.monotonic() + LOG_SECONDS
    while True:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        found = [line for line in lines if line["event"] == event]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def leftovers(data_dir: Path) -> list[Path]:
    """What interrupted writes, downloads and packings left behind."""
    found = [path for path in data_dir.rglob("*") if path.name.startswith(TEMPORARY) or path.suffix == ".part"]
    return [*found, *(data_dir / "working").glob("*")]


def assert_blobs_are_sound(data_dir: Path) -> None:
    """Check that every stored blob, a join or a file, matches its digest, and that no file is unknown."""
    # list the files first: the database knows a file before it exists, also one that is written meanwhile
    files = {path.name.removeprefix(TEMPORARY) for path in (data_dir / "blobs").rglob("*") if path.is_file()}
    unsound, keys = asyncio.run(_look(data_dir))
    assert unsound == []
    assert files - keys == set()


async def _look(data_dir: Path) -> tuple[list[Digest], set[str]]:
    """The digests that do not match their bytes, and the keys of all recorded objects."""
    database = Database.open(database_url(None, data_dir))
    store = BlobStore(database, FileObjects(data_dir / "blobs"), data_dir / "fragments")
    keys: set[str] = set()
    try:
        async with database.reading() as connection:
            blobs = [stored_blob(row) for row in await connection.execute(select(*BLOB_COLUMNS))]
            for table in (tables.pending, tables.upload_part):
                keys.update((await connection.execute(select(table.c.key))).scalars())
    finally:
        await database.close()
    assert blobs
    keys.update(blob.key for blob in blobs if blob.key)
    return [blob.digest for blob in blobs if Digest.of(b"".join(store.read(blob))) != blob.digest], keys
