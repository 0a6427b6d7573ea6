"""Token buckets: how many things each sender may do in a while, with a number at once after a pause.

The library `limits`, which counts failed sign-ins, has windows and no bucket; its quickest takes four times as long for
a request, which answering one from memory would feel, and it keeps a key for as long as its window lasts, however many
there are.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_KEYS = 65_536
"""Senders that are remembered. Whoever is forgotten, the longest silent first, has a full bucket again."""


class Buckets:
    """A bucket for each key: `most` at once, and one more every 1 / `rate` seconds."""

    def __init__(self, rate: float, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate
        self._depth = (most - 1) / rate
        self._clock = clock
        self._full: OrderedDict[Hashable, float] = OrderedDict()
        """When each bucket will be full again; one that is full need not be here."""

    def take(self, key: Hashable) -> float:
        """Take one. Returns 0, or if there is none, the seconds until there is one; then nothing is taken."""
        full, now = self._full, self._clock()
        until = full.get(key, now)
        if until <= now:
            until = now
        elif until - now > self._depth:
            # who keeps asking is not forgotten for that
            full.move_to_end(key)
            return until - now - self._depth
        full[key] = until + self._interval
        full.move_to_end(key)
        if len(full) > MOST_KEYS:
            full.popitem(last=False)
        return 0.0

    @property
    def remembered(self) -> int:
        return len(self._full)
