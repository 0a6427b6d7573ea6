"""Argon2id (RFC 9106) in its own threads, so that a flood of sign-ins takes no more than its share of the machine.

No other work uses these threads: a password takes a tenth of a second and 64 MiB. They also import the library, which
is of no use to servers without passwords (`auth.late`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from auth.errors import PasswordUnfit, SignInBusy

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

LEAST_CHARACTERS = 8
MOST_BYTES = 1024

NICENESS = 15
"""Two threads of this priority leave nine tenths of a core to the one that answers requests, and get the rest."""

WAITING_PER_THREAD = 16
"""Passwords that may wait per thread: the last one then waits for seconds."""


def make_hasher() -> PasswordHasher:
    """One lane: lanes are threads, and here different passwords run in parallel instead."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)


class HashPool:
    """Hashes or compares at most `threads` passwords at a time, and one more of those that were right before.

    Those have a thread of their own, so that no flood of wrong ones delays them. One network has half of its places, so
    that those who have right passwords there leave room for others.
    """

    def __init__(self, threads: int, hasher: PasswordHasher | None = None) -> None:
        """With `make_hasher`'s hasher unless there is another."""
        self._given = hasher
        self._strangers, self._known = _Threads(threads, 1, _give_way), _Threads(1, 2)

    @cached_property
    def _hasher(self) -> PasswordHasher:
        """For threads, and for what comes after them."""
        return self._given or make_hasher()

    @cached_property
    def hash_of_nobody(self) -> str:
        """A hash that no password has; comparing with it takes as long as with any other."""
        return _hash_of_nobody(self._hasher)

    async def hash(self, secret: bytes) -> str:
        """Hash in Argon2's own format, which includes salt and parameters. Raises SignInBusy."""
        return await self._strangers.run(lambda: self._hasher.hash(secret))

    async def matches(self, stored: str | None, secret: bytes, *, known: bool = False, network: str = "") -> bool:
        """Whether `stored`, or nobody's hash, was made from `secret`; `known` if that was so before.

        Raises SignInBusy.
        """
        if known:
            return await self._known.run(lambda: self._matches(stored, secret), network)
        return await self._strangers.run(lambda: self._matches(stored, secret))

    def is_outdated(self, stored: str) -> bool:
        """Whether `stored`, which was compared before, was made with other parameters than the current ones."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        for threads in (self._strangers, self._known):
            threads.close()

    def _matches(self, stored: str | None, secret: bytes) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._hasher.verify(self.hash_of_nobody if stored is None else stored, secret)
        except (VerificationError, InvalidHashError):
            return False


class _Threads:
    """`count` threads, and room for a bounded number of passwords that wait for one."""

    def __init__(self, count: int, sharers: int, begin: Callable[[], None] | None = None) -> None:
        """Room for `sharers` times as many as one sharer may have there. Each thread calls `begin` first."""
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="condery-password", initializer=begin)
        self._most_of_one = count * (1 + WAITING_PER_THREAD)
        self._most = sharers * self._most_of_one
        self._count = 0
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    async def run(self, work: Callable[[], T], sharer: str = "") -> T:
        """Raises SignInBusy."""
        with self._lock:
            if self._count >= self._most or self._counts[sharer] >= self._most_of_one:
                raise SignInBusy
            self._count += 1
            self._counts[sharer] += 1
        future = self._executor.submit(work)
        # not when the request ends: a client that hangs up does not stop a thread
        future.add_done_callback(lambda _: self._uncount(sharer))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _uncount(self, sharer: str) -> None:
        with self._lock:
            self._count -= 1
            self._counts[sharer] -= 1
            if not self._counts[sharer]:
                del self._counts[sharer]


def _give_way() -> None:
    """Let everything else in the process go before this thread, if there is not enough of the processor."""
    # 0 is the calling thread on Linux: setpriority(2), "C library/kernel differences"
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


def _hash_of_nobody(hasher: PasswordHasher) -> str:
    salt, digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, hasher.hash_len))
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


def check_password(password: str) -> bytes:
    """Check a new password, and return the bytes to hash. Raises PasswordUnfit."""
    secret = read_password(password)
    if secret is None:
        raise PasswordUnfit(f"it is longer than {MOST_BYTES} bytes, or not text")
    if len(password) < LEAST_CHARACTERS:
        raise PasswordUnfit(f"it has fewer than {LEAST_CHARACTERS} characters")
    return secret


def read_password(password: str) -> bytes | None:
    """The bytes to hash, or None for text that cannot be a password."""
    if len(password) > MOST_BYTES:
        return None
    try:
        secret = normalize(password).encode()
    except UnicodeEncodeError:
        return None
    return secret if len(secret) <= MOST_BYTES else None


def normalize(password: str) -> str:
    """The one spelling of all that are the same password.

    Clients write an accented letter as one character or as two; NFKC makes them one (NIST SP 800-63B, 5.1.1.2). What is
    too long for a password stays as it is.
    """
    if password.isascii() or len(password) > MOST_BYTES:
        return password
    return unicodedata.normalize("NFKC", password)
