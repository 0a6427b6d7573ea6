"""How much callers have had of something lately, so that whoever has had little goes first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from cachetools import LRUCache

from builder.work.claims import Caller

HALF_LIFE = 30.0
"""Seconds after which half of what a caller has had is forgotten."""

_MOST = 1000
"""Callers that are remembered."""


class Usage:
    """The seconds for which callers have had slots."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._had: LRUCache[Caller, tuple[float, float]] = LRUCache(_MOST)
        """Seconds, and when that many were counted."""

    def add(self, caller: Caller, seconds: float) -> None:
        now = self._clock()
        self._had[caller] = self._count(caller, now) + seconds, now

    def of(self, caller: Caller) -> int:
        """Whole seconds, so that callers of small things are equal, and become so again after a while."""
        return int(self._count(caller, self._clock()))

    def _count(self, caller: Caller, now: float) -> float:
        seconds, when = self._had.get(caller, (0.0, now))
        return seconds * math.exp2((when - now) / HALF_LIFE)
