"""How often somebody may be wrong about a password before they have to wait.

Failures of the last minute are counted three ways, each by this process alone:

- of a network against a name: half of `login_attempts`. It holds whoever guesses at one account.
- of a network against all names: `login_attempts`. It holds whoever tries one password on many accounts.
- against a name from everywhere: ten times `login_attempts`. It holds whoever has many addresses.

By the last two, somebody else's failures could keep a person out: those of a neighbour behind the same address, or a
flood of wrong passwords for their name. So they do not count for a network from which that name signed in before, as
far as this process remembers; the first always does. Whoever has a token needs no password, and never waits.

A network is an IPv4 address or an IPv6 /64. Counts are kept under a bounded number of keyed hashes, so memory is
bounded, and nobody can aim at another's count.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cachetools import LRUCache
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from auth.errors import TooManyAttempts

WINDOW_SECONDS = 60
BUCKETS = 4096
"""Counts of each kind that are told apart."""
MOST_KNOWN = 8192
"""Pairs of name and network that are remembered to have signed in."""


@dataclass
class Attempt:
    succeeded: bool = False
    """To be set inside the block when the password was right."""


@dataclass(frozen=True)
class _Count:
    """Failures of one kind in one bucket."""

    key: str
    item: RateLimitItem


class Attempts:
    """Counts failed sign-ins; for the event loop's thread alone."""

    def __init__(self, failures: int, *, seconds: int = WINDOW_SECONDS) -> None:
        """`failures` is the setting `login_attempts`; `seconds` is the time in which they count."""
        self._windows = FixedWindowRateLimiter(MemoryStorage())
        most = {"pair": max(failures // 2, 1), "network": failures, "name": 10 * failures}
        self._items = {kind: RateLimitItemPerSecond(amount, seconds) for kind, amount in most.items()}
        self._secret = secrets.token_bytes(16)
        # those whose password is being compared may all be wrong
        self._running: Counter[str] = Counter()
        self._known: LRUCache[bytes, bool] = LRUCache(MOST_KNOWN)

    @contextlib.contextmanager
    def of(self, name: str, network: str) -> Iterator[Attempt]:
        """One attempt to sign in as `name` from `network`, as `registry.peers.networks.client_of` tells it.

        It is a failure unless the block sets `succeeded`; with an error it is none. Raises TooManyAttempts.
        """
        pair = self._hash("pair", name, network)
        counts = [self._count("pair", pair)]
        if pair not in self._known:
            counts.append(self._count("network", self._hash("network", network)))
            counts.append(self._count("name", self._hash("name", name)))
        self._check(counts)
        self._running.update(count.key for count in counts)
        attempt = Attempt()
        try:
            yield attempt
            self._end(attempt, pair, counts)
        finally:
            self._running.subtract(count.key for count in counts)
            self._running += Counter()  # drops what is zero

    def _check(self, counts: list[_Count]) -> None:
        full = [each for each in counts if self._room(each) <= 0]
        if full:
            resets = (self._windows.get_window_stats(each.item, each.key).reset_time for each in full)
            raise TooManyAttempts(max(1, math.ceil(max(resets) - time.time())))

    def _room(self, count: _Count) -> int:
        return self._windows.get_window_stats(count.item, count.key).remaining - self._running[count.key]

    def _end(self, attempt: Attempt, pair: bytes, counts: list[_Count]) -> None:
        if attempt.succeeded:
            self._known[pair] = True
            self._windows.clear(counts[0].item, counts[0].key)
            return
        for count in counts:
            self._windows.hit(count.item, count.key)

    def _count(self, kind: str, hashed: bytes) -> _Count:
        return _Count(f"{kind}/{int.from_bytes(hashed) % BUCKETS}", self._items[kind])

    def _hash(self, *words: str) -> bytes:
        text = "\0".join(words).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=self._secret).digest()
