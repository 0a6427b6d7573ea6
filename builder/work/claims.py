"""On whose behalf something is done: who waits for it now, and who asked for it first."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

GRACE_SECONDS = 10.0
"""How long somebody who left is still waited with: clients come back with GET after HEAD, or a second after a 503."""


@dataclass(frozen=True)
class Caller:
    """Who asks, as far as slots are shared: an address, or a part of a network. Empty for this machine's own wishes."""

    name: str = ""


OURSELVES = Caller()

Permit = Callable[[], None]
"""Asked just before a build is begun for somebody, or joined; raises a ConderyError for who may have none."""


def permit_all() -> None:
    """The Permit of who may have anything built."""


class Claim:
    """What is done is done for those who wait for it; when nobody does any more, it is still charged to `first`.

    A claim that is `lasting` has somebody who waits until the end, as the command line does. `origin` is the claim of
    the build that this is a part of. What is of higher `priority` is done before all else.
    """

    def __init__(
        self, first: Caller = OURSELVES, *, lasting: bool = False, origin: Claim | None = None, priority: int = 0
    ) -> None:
        self.first = first
        self.origin = origin or self
        self.priority = priority
        self.is_given_up = False
        self._waiting: Counter[Caller] = Counter([first] if lasting else [])
        self._left: dict[Caller, float] = {}
        self._joined: Counter[Claim] = Counter()
        self._serves: Counter[Claim] = Counter()
        """The claims that this one has joined."""
        self._watchers: Counter[Callable[[], None]] = Counter()

    def part(self) -> Claim:
        """A claim for something that other builds may need, too."""
        return Claim(self.first, origin=self.origin)

    @property
    def is_joined(self) -> bool:
        """Whether anything else needs what is done for this claim."""
        return bool(self._joined)

    def give_up(self) -> None:
        """Its build is to be stopped, and whatever is done for that alone."""
        self.is_given_up = True

    def set_priority(self, priority: int) -> None:
        if priority != self.priority:
            self.priority = priority
            self._tell()

    @contextlib.contextmanager
    def waited_for(self, caller: Caller) -> Iterator[None]:
        """`caller` waits for it in here."""
        self._waiting[caller] += 1
        self._tell()
        try:
            yield
        finally:
            count_down(self._waiting, caller)
            now = time.monotonic()
            self._left = {each: left for each, left in self._left.items() if left + GRACE_SECONDS > now}
            self._left[caller] = now

    @contextlib.contextmanager
    def joined(self, other: Claim) -> Iterator[None]:
        """What is done for this claim is what `other` needs, too, in here."""
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
        """`watcher` is called in here when somebody comes who waits: it may be their turn now."""
        self._watchers[watcher] += 1
        try:
            yield
        finally:
            count_down(self._watchers, watcher)

    def _tell(self) -> None:
        seen, left = {self}, [self]
        while left:
            claim = left.pop()
            for watcher in list(claim._watchers):
                watcher()
            left.extend(claim._serves.keys() - seen)
            seen.update(claim._serves)

    def waiting(self) -> Set[Caller]:
        """Those who wait now, or did a moment ago."""
        since = time.monotonic() - GRACE_SECONDS
        found: set[Caller] = set()
        for claim in self._all_joined():
            found.update(claim._waiting)
            found.update(caller for caller, when in claim._left.items() if when > since)
        return found

    def urgency(self) -> int:
        """The highest priority of the builds that need what is done for this claim; its own build's when none does."""
        needed_by = [claim.priority for claim in self._all_joined() if claim.origin is claim]
        return max(needed_by, default=self.origin.priority)

    def _all_joined(self) -> Set[Claim]:
        """This claim and those that joined it, directly or not."""
        # two builds may each wait for something that the other began
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
    """On whose behalf this task works; of its own where nobody said, which is waited for."""
    return _CLAIM.get() or Claim(lasting=True)


@contextlib.contextmanager
def on_behalf_of(claim: Claim) -> Iterator[Claim]:
    """What is done in here, and by the tasks that are begun in here, is done for `claim`."""
    token = _CLAIM.set(claim)
    try:
        yield claim
    finally:
        _CLAIM.reset(token)
