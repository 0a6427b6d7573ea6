"""Database, blobs and catalog in a directory of their own, for async tests and for blocking ones."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import func, select

from storage.blobs.blocking import StoreInThreads
from storage.blobs.joins import FragmentPart, Layer
from storage.blobs.layers import LayerStore
from storage.blobs.rows import StoredBlob, stored_blob
from storage.blobs.store import BlobStore
from storage.catalog.builds import Builds
from storage.catalog.parts import Catalog
from storage.database import tables
from storage.database.engine import Database, migrate, sqlite_url
from storage.digest import Digest
from storage.objects.files import FileObjects
from storage.objects.protocol import ObjectStore

T = TypeVar("T")


@dataclass(frozen=True)
class Stores:
    root: Path
    database: Database
    objects: ObjectStore
    blobs: BlobStore
    layers: LayerStore
    catalog: Catalog

    async def rows(self, query: Any) -> Sequence[Any]:
        async with self.database.reading() as connection:
            return (await connection.execute(query)).all()

    async def stored(self) -> list[StoredBlob]:
        return [stored_blob(row) for row in await self.rows(select(tables.blob))]

    async def pending(self) -> list[str]:
        return [row.key for row in await self.rows(select(tables.pending))]

    def files(self) -> list[str]:
        """The names of all files in the object store."""
        return sorted(path.name for path in (self.root / "blobs").rglob("*") if path.is_file())

    def fragment(self, key: str, data: bytes) -> FragmentPart:
        path = self.blobs.fragment_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return FragmentPart(key, len(data))

    async def content(self, digest: Digest) -> bytes:
        return await self.blobs.content(digest)


async def count_builds(builds: Builds, key: str) -> int:
    query = select(func.count()).select_from(tables.build).where(tables.build.c.key == key)
    async with builds._database.reading() as connection:
        return int((await connection.execute(query)).scalar_one())


async def put_layers(store: LayerStore, *layers: Layer) -> None:
    for layer in layers:
        await store.write(layer)
    await store.record(layers)


@contextlib.asynccontextmanager
async def open_stores(
    root: Path, *, joins: bool = True, objects: ObjectStore | None = None, url: str | None = None
) -> AsyncIterator[Stores]:
    """SQLite and files below `root`, unless others are given."""
    root.mkdir(parents=True, exist_ok=True)
    url = url or new_sqlite(root / "condery.sqlite")
    await asyncio.to_thread(migrate, url)
    database = Database.open(url)
    objects = objects or FileObjects(root / "blobs")
    try:
        blobs = BlobStore(database, objects, root / "fragments", joins=joins)
        yield Stores(root, database, objects, blobs, LayerStore(blobs), Catalog.of(database))
    finally:
        await database.close()


def new_sqlite(path: Path) -> str:
    """The URL of a new database at `path` in its newest form, copied since migrating takes longer than many a test."""
    if not path.exists():
        shutil.copyfile(_empty_sqlite(), path)
        # as a server makes it
        path.chmod(0o600)
    return sqlite_url(path)


def seed_data(directory: Path) -> None:
    """Give a new data directory a database in its newest form, so that a server need not make it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new_sqlite(directory / "condery.sqlite")


@functools.cache
def _empty_sqlite() -> Path:
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory)
    migrate(sqlite_url(directory / "empty.sqlite"))
    return directory / "empty.sqlite"


class Everything(NamedTuple):
    digests: list[Digest]
    pending: list[str]
    files: list[str]


class Blocking:
    """BlockingBlobs over a real store, whose event loop runs in a thread of its own until `close`."""

    def __init__(self, root: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        self.stores = self._run(self._stack.enter_async_context(open_stores(root)))
        self._blobs = self._run(self._in_loop())

    async def _in_loop(self) -> StoreInThreads:
        return StoreInThreads(self.stores.blobs)

    def close(self) -> None:
        self._run(self._stack.aclose())
        self._run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def elsewhere(self, work: Coroutine[Any, Any, T]) -> T:
        """Await in the store's event loop, for a test that has its own."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        return self._blobs.sizes(digests)

    def read(self, digest: Digest) -> Iterator[bytes]:
        return self._blobs.read(digest)

    def put(self, digest: Digest, content: Iterable[bytes]) -> int:
        return self._blobs.put(digest, content)

    def path(self, digest: Digest) -> Path:
        """The file with the blob's bytes."""
        blob = self._run(self.stores.blobs.find(digest))
        assert isinstance(self.stores.objects, FileObjects)
        assert blob.key is not None
        return self.stores.objects.path(blob.key)

    def everything(self) -> Everything:
        return self._run(self._everything())

    async def _everything(self) -> Everything:
        digests = sorted(blob.digest for blob in await self.stores.stored())
        return Everything(digests, await self.stores.pending(), self.stores.files())

    def lose(self, digest: Digest) -> None:
        """Delete a blob as the garbage collection does."""
        path = self.path(digest)
        self._run(self._delete(digest))
        path.unlink()

    def make_old(self) -> None:
        """Make it look as if nothing had been used for a long time."""
        self._run(self._make_old())

    async def _make_old(self) -> None:
        async with self.stores.database.writing() as connection:
            await connection.execute(tables.blob.update().values(used=1.0))

    def old(self) -> set[Digest]:
        """The blobs not used since `make_old`."""
        rows = self._run(self.stores.rows(select(tables.blob.c.digest).where(tables.blob.c.used == 1.0)))
        return {Digest(row.digest) for row in rows}

    async def _delete(self, digest: Digest) -> None:
        async with self.stores.database.writing() as connection:
            await connection.execute(tables.blob.delete().where(tables.blob.c.digest == digest))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
