"""How often a sign-in may fail before the next one has to wait.

Each process counts the failures of the last minute in three ways:

- from one network for one name: half of `login_attempts`, against guesses for one account;
- from one network for all names: `login_attempts`, against trying one password on many accounts;
- from everywhere for one name: ten times `login_attempts`, against an attacker with many addresses. A network that has
  not failed for the name in this minute still gets one try.

A flood of wrong passwords must not lock out those who know the right one. So none of this applies to a name with a
password that was right before, as far as this process remembers: whoever has it does not guess. A client with a token
needs no password, and never waits.

A network is an IPv4 address or an IPv6 /64. Counts are stored under a bounded number of keyed hashes, so memory is
bounded, and nobody can aim at another's count. Of a password only a keyed hash is kept.
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

from auth.accounts.hashing import MOST_BYTES, normalize
from auth.accounts.names import is_name
from auth.errors import TooManyAttempts

WINDOW_SECONDS = 60
BUCKETS = 65_536
"""The number of separate counts of each kind. Those that share one wait for each other, so there are plenty."""
MOST_KNOWN = 8192
"""The most logins to remember as right."""


@dataclass
class Attempt:
    known: bool
    """Whether this name signed in with this password before."""
    succeeded: bool = False
    """Set this inside the block if the password was right."""


@dataclass(frozen=True)
class _Count:
    """Failures of one kind in one bucket."""

    key: str
    item: RateLimitItem


class Attempts:
    """Counts failed sign-ins; use it only in the event loop's thread."""

    def __init__(self, failures: int, *, seconds: int = WINDOW_SECONDS) -> None:
        """`failures` is the setting `login_attempts`; they count for `seconds`."""
        self._windows = FixedWindowRateLimiter(MemoryStorage())
        most = {"pair": max(failures // 2, 1), "network": failures, "name": 10 * failures}
        self._items = {kind: RateLimitItemPerSecond(amount, seconds) for kind, amount in most.items()}
        self._secret = secrets.token_bytes(16)
        # all passwords being compared now may be wrong
        self._running: Counter[str] = Counter()
        self._known: LRUCache[bytes, bool] = LRUCache(MOST_KNOWN)

    @contextlib.contextmanager
    def of(self, name: str, password: str, network: str) -> Iterator[Attempt]:
        """One attempt to sign in from `network`, which `registry.peers.networks.client_of` names.

        It counts as a failure unless the block sets `succeeded` or raises an error. Raises TooManyAttempts.
        """
        login = self._hash("login", name, normalize(password)[:MOST_BYTES])
        attempt = Attempt(known=login in self._known)
        pair = self._count("pair", name, network)
        counts = [pair, self._count("network", network), self._count("name", name)]
        if not attempt.known:
            has_failed = self._room(pair) < pair.item.amount
            self._check(counts if has_failed else counts[:2], name)
        self._running.update(count.key for count in counts)
        try:
            yield attempt
            self._end(attempt, login, counts)
        finally:
            self._running.subtract(count.key for count in counts)
            self._running += Counter()  # drops what is zero

    def _check(self, counts: list[_Count], name: str) -> None:
        full = [each for each in counts if self._room(each) <= 0]
        if full:
            resets = (self._windows.get_window_stats(each.item, each.key).reset_time for each in full)
            # what is no name may be a password in the wrong field; whoever logs it knows more
            raise TooManyAttempts(max(1, math.ceil(max(resets) - time.time())), name if is_name(name) else "")

    def _room(self, count: _Count) -> int:
        return self._windows.get_window_stats(count.item, count.key).remaining - self._running[count.key]

    def _end(self, attempt: Attempt, login: bytes, counts: list[_Count]) -> None:
        if attempt.succeeded:
            self._known[login] = True
            self._windows.clear(counts[0].item, counts[0].key)
            return
        self._known.pop(login, None)
        for count in counts:
            self._windows.hit(count.item, count.key)

    def _count(self, kind: str, *words: str) -> _Count:
        return _Count(f"{kind}/{int.from_bytes(self._hash(kind, *words)) % BUCKETS}", self._items[kind])

    def _hash(self, *words: str) -> bytes:
        return hashlib.blake2b(repr(words).encode(), digest_size=16, key=self._secret).digest()
