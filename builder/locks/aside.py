"""Work on locks of very many packages, in a thread: it takes parts of seconds, while the event loop serves others.

A lock of usual size is worked on at once, as a thread would take longer than the work.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec

T = TypeVar("T")

LARGE = 500
"""Packages of a large lock, of all platforms."""


async def work_on(work: Callable[[], T], *locks: Lock | None) -> T:
    """Do some work on locks: in a thread if one of them is large."""
    is_large = any(_is_large(lock.packages) for lock in locks if lock is not None)
    return await asyncio.to_thread(work) if is_large else work()


async def read_lock(document: Mapping[str, Any]) -> Lock:
    """A lock from its document."""
    if _is_large(document["packages"]):
        return await asyncio.to_thread(Lock.from_json, document)
    return Lock.from_json(document)


def read_spec(document: Mapping[str, Any]) -> EnvironmentSpec:
    """The spec in a lock's document, without its packages, which may be very many."""
    return EnvironmentSpec.from_json(document["spec"])


async def write_lock(lock: Lock) -> tuple[str, str]:
    """The key of a lock, and its document as JSON text."""
    return await work_on(lambda: (lock.key, json.dumps(lock.to_json())), lock)


def _is_large(packages: Mapping[str, Any]) -> bool:
    return sum(map(len, packages.values())) > LARGE
