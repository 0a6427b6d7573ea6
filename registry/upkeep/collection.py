"""Garbage collection for the server and the command line: by the settings, one at a time, on a schedule."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import structlog

from auth.audit.log import prune
from registry.settings.model import Settings
from storage.background import in_background
from storage.clock import is_within
from storage.disk.reserve import Reserve
from storage.errors import GarbageCollectionRunning, StorageError
from storage.garbage.collection import CollectionReport, Garbage, Step
from storage.garbage.eviction import Bounds, Eviction
from storage.garbage.exclusive import between_collections, last_collection, only_here, only_one
from storage.garbage.rehearsal import rehearse
from storage.garbage.rules import GarbagePolicy
from storage.store import Store
from storage.upkeep_settings import DAY

LINGER_SECONDS = 60.0
FIRST_SECONDS = 60.0
"""The delay after a start, which has more to do than tidy up."""

JITTER = 0.1
LOOK_SECONDS = 60.0
"""The longest pause between checks of the last collection's time, and after a failed collection."""

log = structlog.get_logger(__name__)


def policy_of(settings: Settings) -> GarbagePolicy:
    upkeep = settings.upkeep
    return GarbagePolicy(
        root=settings.builder.root,
        grace=upkeep.gc_grace,
        linger=min(LINGER_SECONDS, upkeep.gc_grace),
        upload_seconds=upkeep.upload_seconds,
        untagged_for=upkeep.untagged_for,
        image_retention=upkeep.image_retention,
        copy_retention=settings.mirror.mirror_keep,
        # a failure is remembered in its build's row
        build_retention=max(
            upkeep.build_retention, settings.builder.failure_memory, settings.builder.transient_failure_memory
        ),
        lock_retention=upkeep.lock_retention,
        locks_limit=upkeep.locks_limit,
        limits=upkeep.limits,
    )


async def collect(settings: Settings, store: Store, *, dry_run: bool = False) -> CollectionReport:
    """Collect garbage and keep the caches within their bounds.

    Raises GarbageCollectionRunning if another collection is running, and StorageUnavailable.
    """
    policy, upkeep, begun = policy_of(settings), settings.upkeep, time.monotonic()
    bounds = Bounds(upkeep.fragments_limit, upkeep.archives_limit, upkeep.repodata_limit, upkeep.pypi_limit)
    eviction = Eviction(settings.data_directory, store.blobs, bounds)
    await asyncio.to_thread(store.reserve.prepare)
    if dry_run:
        report = await rehearse(store.blobs, policy)
    else:
        with only_here(settings.data_directory):
            async with only_one(store.database):
                await store.environments.logs.settle()
                report = await Garbage(store.blobs, store.changes, policy).collect()
    report.add(Step("audit events", await _prune_audit(settings, store, dry_run=dry_run)))
    # each machine has its own caches, whoever collects shared content
    for step in await eviction.evict(dry_run=dry_run):
        report.add(step)
    await asyncio.to_thread(store.reserve.keep)
    report.seconds = time.monotonic() - begun
    return report


async def _prune_audit(settings: Settings, store: Store, *, dry_run: bool) -> int:
    """Delete the events that are older than the setting allows, and return how many."""
    days = settings.access.audit_days
    return await prune(store.database, time.time() - days * DAY, dry_run=dry_run) if days else 0


@contextlib.asynccontextmanager
async def keeping(reserve: Reserve) -> AsyncIterator[None]:
    """While the block runs, take the reserve again whenever it was spent and there is room."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(reserve.keep)

    async with in_background(keep()):
        yield


@contextlib.asynccontextmanager
async def collecting(settings: Settings, store: Store) -> AsyncIterator[None]:
    """Collect every `gc_interval` while the block runs, unless another process has just collected."""
    if not settings.upkeep.gc_interval:
        yield
        return
    async with in_background(_collect_on_schedule(settings, store)):
        yield


async def _collect_on_schedule(settings: Settings, store: Store) -> None:
    interval = settings.upkeep.gc_interval
    # otherwise several processes and machines would all come at the same time
    jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
    await asyncio.sleep(min(FIRST_SECONDS, interval) * jitter)
    while True:
        last = last_collection(settings.data_directory)
        if is_within(interval * jitter, last):
            # another process, or a person, may collect meanwhile
            wait = last + interval * jitter - time.time()
            await asyncio.sleep(min(max(wait, 0), LOOK_SECONDS))
            await _delete_objects(settings, store)
        elif not await _collect_and_log(settings, store):
            await asyncio.sleep(min(interval, LOOK_SECONDS))


async def _delete_objects(settings: Settings, store: Store) -> None:
    """Delete the bytes of content that made room: they would fill the disk before the next collection."""
    garbage = Garbage(store.blobs, store.changes, policy_of(settings))
    # what fails is left for the collection, which reports it
    with contextlib.suppress(StorageError):
        if await garbage.has_due_objects():
            with between_collections(settings.data_directory):
                step = await garbage.delete_objects()
            log.info("bytes of what gave way deleted", count=step.count)


async def _collect_and_log(settings: Settings, store: Store) -> bool:
    """Collect, and return whether it succeeded."""
    try:
        report = await collect(settings, store)
    except GarbageCollectionRunning:
        return False
    except StorageError as error:
        log.warning("garbage collection failed", error=type(error).__name__, reason=str(error))
        return False
    except Exception:
        log.exception("garbage collection crashed")
        return False
    log.info("garbage collected", **report.to_json())
    return True
