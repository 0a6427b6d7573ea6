"""What was found out about access, remembered until any process changes something about it.

Take the stamp before you find something out, and keep the answer with it: a change that came meanwhile is then noticed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from cachetools import LRUCache

from auth.changing import AccessData

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Entry(NamedTuple, Generic[V]):
    answer: V
    stamp: int
    until: float
    """By the monotonic clock."""


class RememberedAnswers(Generic[K, V]):
    """Answers by key, at most `most` of them: the one that was not used for the longest time is forgotten first."""

    def __init__(self, data: AccessData, most: int) -> None:
        self._data = data
        self._entries: LRUCache[K, _Entry[V]] = LRUCache(most)

    def find(self, key: K) -> V | None:
        """The answer if it holds: its time is not over, and nothing about access has changed since."""
        try:
            entry = self._entries[key]
        except KeyError:
            return None
        return entry.answer if entry.stamp == self._data.stamp and entry.until > time.monotonic() else None

    def find_old(self, key: K) -> V | None:
        """The answer if its time is not over. Access may have changed since, so it is no answer to who may do what."""
        entry = self._entries.get(key)
        return entry.answer if entry is not None and entry.until > time.monotonic() else None

    def keep(self, key: K, answer: V, stamp: int, seconds: float = math.inf) -> None:
        """Remember it for `seconds` at most."""
        self._entries[key] = _Entry(answer, stamp, time.monotonic() + seconds)

    def replace(self, key: K, answer: V, stamp: int, seconds: float = math.inf) -> None:
        """Likewise, and no longer than the answer that it replaces; nothing if that was forgotten meanwhile."""
        old = self._entries.get(key)
        if old is not None:
            self._entries[key] = _Entry(answer, stamp, min(old.until, time.monotonic() + seconds))

    def forget(self, key: K) -> None:
        self._entries.pop(key, None)


class RememberedAnswer(Generic[V]):
    """The answer to one question."""

    def __init__(self, data: AccessData) -> None:
        self._data = data
        self._answer: V | None = None
        self._stamp: int | None = None

    def find(self) -> V | None:
        """The answer if nothing about access has changed since."""
        return self._answer if self._stamp == self._data.stamp else None

    def keep(self, answer: V, stamp: int) -> None:
        self._answer, self._stamp = answer, stamp
