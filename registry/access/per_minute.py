"""How often in a minute one client, or one account, may ask for something that people do by hand.

`registry.rates` counts requests, which come in bursts and thousands.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from registry.errors import TooManyRequests

WINDOW_SECONDS = 60
BUCKETS = 65_536
"""The number of separate counts, which bounds memory. Those that share one wait for each other, so there are plenty."""


class PerMinute:
    """At most `most` a minute for each who asks, counted by one process; use it only in the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._item = RateLimitItemPerSecond(most, WINDOW_SECONDS)
        self._windows = FixedWindowRateLimiter(MemoryStorage())
        # nobody can aim at another's count
        self._key = secrets.token_bytes(16)

    def take(self, asker: str) -> None:
        """Count one. Raises TooManyRequests."""
        bucket = self._bucket(asker)
        if not self._windows.hit(self._item, bucket):
            reset = self._windows.get_window_stats(self._item, bucket).reset_time
            raise TooManyRequests(asker, max(1, math.ceil(reset - time.time())))

    def _bucket(self, asker: str) -> str:
        digest = hashlib.blake2b(asker.encode(), digest_size=8, key=self._key).digest()
        return str(int.from_bytes(digest) % BUCKETS)
