"""Small things that are read for every request and rarely change, remembered while no stamp says that they may have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 4096


class Remembered(Generic[K, V]):
    """Values of `load` by their keys. `stamp` gives what changes with whatever a value depends on."""

    def __init__(self, stamp: Callable[[K], Hashable], load: Callable[[K], Awaitable[V]]) -> None:
        self._stamp = stamp
        self._load = load
        self._kept: LRUCache[K, tuple[Hashable, V]] = LRUCache(MOST)

    async def find(self, key: K) -> V:
        # taken before the value is read: a change meanwhile makes it another
        stamp = self._stamp(key)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        value = await self._load(key)
        self._kept[key] = (stamp, value)
        return value
