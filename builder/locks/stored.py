"""Finds a stored lock by the first digits of its key, as used by tags and `condery explain`."""

from __future__ import annotations

from collections.abc import Collection

from builder.errors import UnknownLock
from storage.catalog.locks import Locks


async def find_lock_key(locks: Locks, name: str, prefix: str, spec_keys: Collection[str] | None = None) -> str:
    """Return the key of the only lock that starts with `prefix` and, if given, belongs to one of the specs `spec_keys`.

    Raises UnknownLock, which calls it `name`.
    """
    found = await locks.find_by_prefix(prefix)
    if not found:
        raise UnknownLock(
            name, "no such lock is stored here; pull the tag latest, whose label io.condery.lock names its lock"
        )
    mine = [key for key, of_spec in found if spec_keys is None or of_spec in spec_keys]
    if not mine:
        raise UnknownLock(
            name,
            "this lock was made for other packages, channels or platforms; use the name and the settings that it was "
            "made with",
        )
    if len(found) > 1:
        raise UnknownLock(name, "more than one lock starts with these digits; give more of them")
    return mine[0]
