"""Environment files that are built when they change: each content once, by one process.

Events of the kernel only say when to look. What is built is decided by looking: a file is read when it has been the
same for a while, and built if its content is another than the one that was built last, which the database knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from builder.environments.inputs.environment_file import LONGEST_NAME, check_name
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.life import NamedEnvironments
from builder.environments.repository import write_repository
from builder.environments.watching import files
from builder.environments.watching.files import Changing, Scan, Signature, Unwatchable
from builder.environments.watching.settings import WatchEntry, WatchSettings
from builder.errors import BuilderError, InputInvalid, PolicyUnavailable, TooManyBuilds
from builder.queue.owner import Owner
from storage.background import in_background
from storage.database.leases import Leases
from storage.environments.vocabulary import Cause, EnvironmentBuild
from storage.environments.watching.watched import WatchedFile, WatchedFiles, WatchedPath
from storage.errors import ConderyError, EnvironmentProblem, WatchedAlready, quote
from storage.events.outbox import Record
from storage.oci import LONGEST_REPOSITORY, is_repository

log = structlog.get_logger(__name__)

OURSELVES = "condery"
"""Who asks for builds of files."""


@dataclass(frozen=True)
class Pace:
    """Times in seconds."""

    quiet: float = 1.0
    """A file is read when it has not changed for so long."""
    poll: float = 2.0
    rescan: float = 20.0
    """After which a directory is looked through without an event, too."""
    retry: float = 60.0
    lease: float = 90.0


@dataclass
class EnvironmentWatching:
    """The entries of the settings. `record` is called in the transaction of each build."""

    named: NamedEnvironments
    leases: Leases
    settings: WatchSettings
    record: Record[EnvironmentBuild] | None = None
    pace: Pace = field(default_factory=Pace)
    _owner: str = field(default_factory=lambda: str(Owner.new()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the block runs."""
        async with contextlib.AsyncExitStack() as stack:
            for entry in self.settings.entries:
                await stack.enter_async_context(in_background(self._keep(entry)))
            yield

    async def _keep(self, entry: WatchEntry) -> None:
        """Watch an entry whenever no other process does."""
        key = hashlib.sha256(f"{entry.namespace}={entry.path}".encode()).hexdigest()
        lease, wait = f"watch {key[:32]}", min(self.pace.rescan, self.pace.lease / 3)
        while True:
            try:
                async with contextlib.aclosing(self._looks(entry)) as looks:
                    while await self.leases.take(lease, self._owner, self.pace.lease):
                        await anext(looks)
            except ConderyError as error:
                log.warning("cannot watch environment files", path=entry.path, reason=str(error))
            except Exception:
                # one file that nobody thought of does not end the watching of all others
                log.exception("cannot watch environment files", path=entry.path)
            finally:
                with contextlib.suppress(ConderyError):
                    await self.leases.give_up(lease, self._owner)
            await asyncio.sleep(wait)

    async def _looks(self, entry: WatchEntry) -> AsyncGenerator[None, None]:
        """Look again and again, and yield after each time, at the latest after `rescan` seconds."""
        watch, changed = Watch(self, entry), asyncio.Event()
        async with _Events(changed, entry, self.settings, self.pace) as events:
            while True:
                changed.clear()
                is_waiting = await watch.look()
                # what changed before the events began is seen by another look
                is_waiting |= events.follow(watch.directories)
                yield
                timeout = self.pace.quiet if is_waiting else events.patience
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await changed.wait()
                # many changes of one moment are looked at together
                await asyncio.sleep(min(self.pace.quiet, 0.1))


class _Events:
    """Sets an event when the kernel says that something has changed in some directories."""

    def __init__(self, changed: asyncio.Event, entry: WatchEntry, settings: WatchSettings, pace: Pace) -> None:
        self._changed, self._pace = changed, pace
        self._polls = settings.watch_polling == "always"
        self._may_poll = settings.watch_polling == "auto"
        if self._may_poll and files.needs_polling(entry.path):
            log.info("environment files are looked for every moment", path=entry.path)
            self._polls = True
        self._followed: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Events:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    @property
    def patience(self) -> float:
        """How long to wait for an event."""
        return self._pace.poll if self._polls else self._pace.rescan

    def follow(self, directories: frozenset[str]) -> bool:
        """Follow these directories; whether this begins now."""
        if self._polls or (self._followed == directories and self._task is not None and not self._task.done()):
            return False
        before, self._followed = self._task, directories
        self._task = asyncio.create_task(self._run(directories, before)) if directories else None
        return self._task is not None

    async def _run(self, directories: frozenset[str], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        # most servers watch no files, and this takes more memory than all that is imported beside it
        from watchfiles import awatch

        try:
            # each directory by itself: the library would follow links out of them
            async for _ in awatch(*directories, watch_filter=None, debounce=200, step=50, recursive=False):
                self._changed.set()
        except FileNotFoundError:
            # a directory is gone: the next look says so
            await asyncio.sleep(self._pace.quiet)
        except (OSError, RuntimeError) as error:
            log.warning("the kernel watches no more files; looking for changes every moment", reason=str(error))
            self._polls = self._may_poll
        self._changed.set()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class Watch:
    """One entry: which of its files are known as they are."""

    def __init__(self, watching: EnvironmentWatching, entry: WatchEntry) -> None:
        self._named, self._pace, self._record = watching.named, watching.pace, watching.record
        self._recursive = watching.settings.watch_recursive
        self._watched: WatchedFiles = watching.named.store.watched
        self._entry = entry
        self._seen: dict[str, tuple[Signature, float]] = {}
        """By path: as it was last, and since when."""
        self._done: dict[str, Signature] = {}
        self._retries: dict[str, float] = {}
        self.directories: frozenset[str] = frozenset()

    def _place(self, path: str) -> WatchedPath:
        return WatchedPath(self._entry.namespace, self._entry.path, path)

    async def look(self) -> bool:
        """Build what has changed and is quiet; whether something is not quiet yet."""
        entry = self._entry
        rows = await self._watched.list_of(entry.namespace, entry.path)
        try:
            found: Scan = await asyncio.to_thread(files.scan, entry.path, recursive=self._recursive)
        except Unwatchable as error:
            # what was there may come back with its disk
            await self._tell(self._place(entry.path), str(error), rows.get(entry.path))
            self.directories = frozenset()
            return False
        self.directories = found.directories
        if gone := [row.place for path, row in rows.items() if row.gone is None and path not in found.files]:
            await self._watched.note_gone(gone)
        for known in (self._seen, self._done, self._retries):
            for path in known.keys() - found.files.keys():
                del known[path]
        is_waiting = False
        for path, signature in sorted(found.files.items()):
            if self._done.get(path) != signature:
                is_waiting |= not await self._take(path, signature, rows.get(path))
        return is_waiting

    async def _take(self, path: str, signature: Signature, row: WatchedFile | None) -> bool:
        """Build a file if it is quiet; False if it is not."""
        now = time.monotonic()
        before, since = self._seen.get(path, (None, now))
        if before != signature:
            self._seen[path] = (signature, now)
            return False
        if now < since + self._pace.quiet:
            return False
        if now < self._retries.get(path, 0.0):
            return True
        place = self._place(path)
        try:
            content, read = await asyncio.to_thread(files.read, path, files.find_bound(self._entry.path))
            if read != signature:
                raise Changing
            await self._build(place, content, row)
        except Changing:
            return False
        except WatchedAlready:
            pass
        except (Unwatchable, BuilderError, EnvironmentProblem) as error:
            await self._tell(place, str(error), row)
            if isinstance(error, TooManyBuilds | PolicyUnavailable):
                self._retries[path] = now + self._pace.retry
                return True
        self._done[path] = signature
        return True

    async def _tell(self, place: WatchedPath, error: str, row: WatchedFile | None) -> None:
        if row is None or row.error != error or row.gone is not None:
            log.warning("an environment file is not built", path=place.path, namespace=place.namespace, reason=error)
            await self._watched.note_error(place, error)

    async def _build(self, place: WatchedPath, content: bytes, row: WatchedFile | None) -> None:
        """Build a content unless it is the one that was built last. Raises what building it does."""
        sha256 = hashlib.sha256(content).hexdigest()
        if row is not None and row.sha256 == sha256 and row.environment is not None:
            if row.error is not None or row.gone is not None:
                await self._watched.note_same(place, row.environment, sha256, row.build)
            return
        named, default = self._named, files.name_of(place.path)
        wanted = await named.wanted.read(content, named.builder.pool, place.namespace, default)
        name = _choose_name(place.namespace, wanted, default)
        if (other := await self._watched.find_other(place, name)) is not None:
            raise InputInvalid("name", f"{name} is the environment of {quote(other)} already; choose another name")
        if (same := await self._watched.find_same(place, name, sha256)) is not None:
            # the file has another name now
            await self._watched.note_same(place, name, sha256, same)
            return
        build = await named.create(
            place.namespace,
            name,
            replace(wanted, name=name),
            by=OURSELVES,
            cause=Cause.WATCH,
            record=self._recorder(place, name, sha256),
        )
        log.info("an environment file has changed", path=place.path, environment=build.repository, build=build.id)

    def _recorder(self, place: WatchedPath, name: str, sha256: str) -> Record[EnvironmentBuild]:
        watched, also = self._watched, self._record

        async def record(connection: AsyncConnection, build: EnvironmentBuild) -> None:
            await watched.note_build(connection, place, name, sha256, build.id)
            if also is not None:
                await also(connection, build)

        return record


def _choose_name(namespace: str, wanted: EnvironmentInput, default: str) -> str:
    """What the environment is called. Raises InputInvalid."""
    name = check_name(wanted.name or default)
    repository = write_repository(namespace, name)
    if not is_repository(repository) or len(repository) > LONGEST_REPOSITORY or len(name) > LONGEST_NAME:
        raise InputInvalid("name", f"{name} leaves no name for its images; use more letters and digits")
    return name
