"""What is noted of the same again and again, and of a flood of refusals.

A refusal costs its sender nothing, and who is refused chooses what it is about. So each sender has a few of their own a
minute, all who are not signed in have a few together, and of the rest there is one event with their number.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from auth.audit.event import AuditEvent

SECONDS = 60.0
"""The time in which the same is noted once, and after which the number of what was left out is."""
MOST = 1000
"""The most that are noted in that time, whoever they are of."""
MOST_OF_ONE = 60
"""Of one principal, wherever they come from; of all who are not signed in together."""
MOST_FROM_ONE = 20
"""Of one principal from one client; of the failed sign-ins of one client."""
MOST_REMEMBERED = 10_000

SIGN_IN = "sign-in"
BUILD = "image.build"
SEVERAL = "refusals"
"""The action of an event that stands for several actions."""

_Level = tuple[Hashable, ...]


@dataclass
class _LeftOut:
    event: AuditEvent
    action: str
    network: str
    count: int = 0

    def add(self, event: AuditEvent) -> None:
        self.count += 1
        self.action = self.action if self.action == event.action else SEVERAL
        self.network = self.network if self.network == event.network else ""

    def sum_up(self) -> AuditEvent:
        of = self.event
        return AuditEvent(
            of.principal,
            of.principal_kind,
            self.action,
            "",
            of.outcome,
            client=self.network,
            detail={"more": self.count, "seconds": int(SECONDS)},
        )


class Floods:
    """Those that one process sees, by a monotonic `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: OrderedDict[_Level, float] = OrderedDict()
        self._began = clock()
        self._noted: Counter[_Level] = Counter()
        self._left_out: dict[_Level, _LeftOut] = {}

    def admits(self, event: AuditEvent) -> bool:
        """Whether to note it. Those beyond the bounds are counted; a repetition is not."""
        now = self._clock()
        key = (event.principal, event.network, event.action, event.entity, event.outcome, event.detail.get("client_id"))
        if now - self._told.get(key, -SECONDS) < SECONDS:
            return False
        levels = list(_levels(event))
        for level, most in levels:
            if self._noted[level] >= most:
                self._left_out.setdefault(level, _LeftOut(event, event.action, event.network)).add(event)
                return False
        self._noted.update(level for level, _ in levels)
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > MOST_REMEMBERED:
            self._told.popitem(last=False)
        return True

    def due_in(self) -> float | None:
        """The seconds until `take` has something to tell; None if nothing was left out."""
        return max(0.0, self._began + SECONDS - self._clock()) if self._left_out else None

    def take(self, *, early: bool = False) -> list[AuditEvent]:
        """What was left out, summed up, once the time is over, or `early`; then counting begins anew."""
        now = self._clock()
        if not early and now - self._began < SECONDS:
            return []
        found = [each.sum_up() for each in self._left_out.values()]
        self._began = now
        self._noted.clear()
        self._left_out.clear()
        return found


def _levels(event: AuditEvent) -> Iterator[tuple[_Level, int]]:
    """What the event counts for, the widest first: where that is full, nothing narrower is remembered."""
    # whoever floods the log with other refusals hides no failed sign-in
    sort = (event.outcome, event.action == SIGN_IN)
    yield sort, MOST
    caller = (*sort, event.principal_kind, event.principal)
    yield caller, MOST_OF_ONE
    if event.principal_kind == "anonymous" and event.action != SIGN_IN:
        # nothing but the address tells them apart, and what they ask for is their choice
        yield (*caller, event.network, event.action), 1
    elif event.action == BUILD:
        # who may not have more now asks again and again, and for one after the other
        yield (*caller, event.action), 1
    else:
        yield (*caller, event.network), MOST_FROM_ONE
