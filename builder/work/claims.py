"""On whose behalf work is done: who waits for it now, and who asked for it first."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from storage.database.write_line import standing_behind

T = TypeVar("T")

GRACE_SECONDS = 10.0
"""How long somebody who left still counts as waiting: clients return with GET after HEAD, or a second after a 503."""


@dataclass(frozen=True)
class Caller:
    """Who asks, for sharing slots: somebody who is signed in, by name, or else an address or a part of a network.

    Empty for work that this machine starts itself, which has the share of those who are not signed in.
    """

    name: str = ""
    signed_in: bool = False


OURSELVES = Caller()

Begun = Callable[[], None]
"""Called once a new build has begun for somebody: not if they join one, nor if they have too many."""

Permit = Callable[[], Begun]
"""Called just before a build is started for somebody, or joined. Raises a ConderyError if they may not have it."""


def untold() -> None:
    """The Begun of those who need not be told."""


def permit_all() -> Begun:
    """The Permit of those who may have anything built."""
    return untold


@dataclass(frozen=True, eq=False, slots=True)
class Wait:
    """What is waited for, since when (by time.monotonic), and how many others wait for one of the same kind now."""

    what: str
    since: float
    count_others: Callable[[], int]


class Claim:
    """Work is done for those who wait for it. When nobody waits any more, it is still charged to `first`.

    A `lasting` claim has somebody who waits until the end, like the command line. `origin` is the claim of the build
    that this is a part of. Work of higher `priority` is done first.
    """

    def __init__(
        self, first: Caller = OURSELVES, *, lasting: bool = False, origin: Claim | None = None, priority: int = 0
    ) -> None:
        self.first = first
        self.is_lasting = lasting
        self.origin = origin or self
        self.priority = priority
        self.is_given_up = False
        self._waiting: Counter[Caller] = Counter([first] if lasting else [])
        self._left: dict[Caller, float] = {}
        self._joined: Counter[Claim] = Counter()
        self._serves: Counter[Claim] = Counter()
        """The claims that this one has joined."""
        self._watchers: Counter[Callable[[], None]] = Counter()
        self._waits: dict[Wait, None] = {}

    def make_part(self) -> Claim:
        """Make a claim for something that other builds may need too."""
        return Claim(self.first, origin=self.origin)

    @property
    def is_joined(self) -> bool:
        """Whether anything else needs the work of this claim."""
        return bool(self._joined)

    def give_up(self) -> None:
        """Mark the build as given up: it is to be stopped, and all work that is done for it alone."""
        self.is_given_up = True

    def set_priority(self, priority: int) -> None:
        if priority != self.priority:
            self.priority = priority
            self._tell()

    @contextlib.contextmanager
    def waited_for(self, caller: Caller) -> Iterator[None]:
        """`caller` waits for the work for as long as this context is open."""
        self._waiting[caller] += 1
        self._tell()
        try:
            yield
        finally:
            count_down(self._waiting, caller)
            now = time.monotonic()
            self._left = {each: left for each, left in self._left.items() if left + GRACE_SECONDS > now}
            self._left[caller] = now

    def note_waiting(self, caller: Caller) -> None:
        """`caller` waits for the work in another process, and counts like somebody who has just left."""
        is_new = caller not in self.list_waiting()
        self._left[caller] = time.monotonic()
        if is_new:
            self._tell()

    @contextlib.contextmanager
    def joined(self, other: Claim) -> Iterator[None]:
        """`other` needs the work of this claim too, for as long as this context is open."""
        self._joined[other] += 1
        other._serves[self] += 1
        self._tell()
        try:
            yield
        finally:
            count_down(self._joined, other)
            count_down(other._serves, self)

    @contextlib.contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """While this context is open, `watcher` is called when somebody starts to wait: it may be their turn now."""
        self._watchers[watcher] += 1
        try:
            yield
        finally:
            count_down(self._watchers, watcher)

    @contextlib.contextmanager
    def waiting_for(self, wait: Wait) -> Iterator[None]:
        """The work waits for something as long as this context is open."""
        self._waits[wait] = None
        try:
            yield
        finally:
            del self._waits[wait]

    def list_waits(self) -> Sequence[Wait]:
        """Return what this work waits for now, and what the work waits for that it has joined."""
        seen, left, waits = {self}, [self], list[Wait]()
        while left:
            claim = left.pop()
            waits.extend(claim._waits)
            left.extend(claim._serves.keys() - seen)
            seen.update(claim._serves)
        return waits

    def _tell(self) -> None:
        seen, left, watchers = {self}, [self], dict[Callable[[], None], None]()
        while left:
            claim = left.pop()
            watchers.update(dict.fromkeys(claim._watchers))
            left.extend(claim._serves.keys() - seen)
            seen.update(claim._serves)
        # each once, however many parts of a build wait for the same
        for watcher in watchers:
            watcher()

    def list_waiting(self) -> Set[Caller]:
        """Return those who wait now, or did a moment ago."""
        since = time.monotonic() - GRACE_SECONDS
        found: set[Caller] = set()
        for claim in self._all_joined():
            found.update(claim._waiting)
            found.update(caller for caller, when in claim._left.items() if when > since)
        return found

    def is_anonymous(self) -> bool:
        """Whether it is of somebody who is not signed in, and nobody who is waits for it."""
        if self.first.signed_in or self.is_lasting:
            return False
        return not any(caller.signed_in for caller in self.list_waiting())

    def find_urgency(self) -> int:
        """Return the highest priority of the builds that need this work; its own build's if none does."""
        needed_by = [claim.priority for claim in self._all_joined() if claim.origin is claim]
        return max(needed_by, default=self.origin.priority)

    def _all_joined(self) -> Set[Claim]:
        """Return this claim and those that joined it, directly or not."""
        # each of two builds may wait for something that the other one started
        seen, left = {self}, [self]
        while left:
            claim = left.pop()
            left.extend(claim._joined.keys() - seen)
            seen.update(claim._joined)
        return seen


def count_down(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


_CLAIM: ContextVar[Claim | None] = ContextVar("claim", default=None)


def current_claim() -> Claim:
    """Return the claim for which this task works. Without one, it is a new claim that is waited for."""
    return _CLAIM.get() or Claim(lasting=True)


@contextlib.contextmanager
def on_behalf_of(claim: Claim) -> Iterator[Claim]:
    """Everything done in this context, and by tasks started in it, is done for `claim`.

    What is written for it stands behind other writers unless somebody who is signed in waits for it.
    """
    token = _CLAIM.set(claim)
    try:
        with standing_behind(claim.is_anonymous):
            yield claim
    finally:
        _CLAIM.reset(token)
