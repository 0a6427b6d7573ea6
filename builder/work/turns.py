"""Whose turn it is when there are fewer slots than builds.

A `Lane` gives the slots of one stage of builds to claims. The next turn goes to

  the claim of highest priority;
  a claim that somebody waits for, before one that nobody waits for any more;
  those who are signed in, or all others together, whichever have fewer turns now; if equal, those who are signed in;
  the caller with the fewest turns now, then the one that has had slots for the fewest seconds lately;
  the build with the fewest turns now;
  the claim that came first.

A caller has at most a share of a lane, so that another caller's turn is never far. Once somebody who is signed in has
had a turn, all others together leave a quarter of the lane, since anybody can have any number of addresses. For those
who come before that, and for lanes of too few slots, there may be extra ones. A turn that takes long gives up its slot:
it goes on in one of the lane's long slots or, if those are taken and it can be interrupted, later. What it has there
counts as a turn like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from builder.work.claims import OURSELVES, Caller, Claim, Wait, count_down, current_claim
from builder.work.usage import Usage

NOTICED = 0.002
"""Seconds from which on giving out turns is followed by a rest."""
RESTS = 4
"""How many times as long the rest is: so much more of the event loop is for others."""


@dataclass(eq=False, slots=True)
class Turn:
    """One request for a slot. Once it has one, `caller` is charged for it."""

    claim: Claim
    caller: Caller = OURSELVES


class Slots:
    """How many turns there are now, by caller and by build. `share` bounds those of one caller.

    Beyond `count` there are `extra` slots for callers who are signed in and have no turn. `usage` has what callers have
    had lately, of these slots and of others perhaps. The turns in `long` are those that had one of these slots before.
    """

    def __init__(
        self, count: int, share: int, usage: Usage | None = None, long: Slots | None = None, extra: int = 0
    ) -> None:
        self.count = count
        self.share = share
        self.extra = extra
        self.usage = usage or Usage()
        self.long = long
        self.taken = 0
        self.of_caller: Counter[Caller] = Counter()
        self.of_side: Counter[bool] = Counter()
        """The turns of those who are signed in, and of all others."""
        self.reserves = False
        """Whether a part is kept for those who are signed in: there are some."""
        self.of_build: Counter[Claim] = Counter()

    def copy(self) -> Slots:
        copied = Slots(self.count, self.share, self.usage, self.long, self.extra)
        copied.taken = self.taken
        copied.of_caller = self.of_caller.copy()
        copied.of_side = self.of_side.copy()
        copied.reserves = self.reserves
        copied.of_build = self.of_build.copy()
        return copied

    def count_of(self, caller: Caller) -> tuple[int, int]:
        """The turns of a caller's side, and of the caller, long ones included."""
        side, own = self.of_side[caller.signed_in], self.of_caller[caller]
        if self.long is None:
            return side, own
        return side + self.long.of_side[caller.signed_in], own + self.long.of_caller[caller]

    def rank(self, caller: Caller, claim: Claim) -> tuple[int, bool, int, int, int]:
        """The lower, the sooner it is the turn of `claim`, if `caller` is charged for it."""
        side, own = self.count_of(caller)
        of_build = self.of_build[claim.origin] + (self.long.of_build[claim.origin] if self.long else 0)
        return side, not caller.signed_in, own, self.usage.of(caller), of_build

    @property
    def is_full(self) -> bool:
        """Whether nobody at all can have a turn."""
        return self.taken >= self.count + self.extra

    @property
    def has_extra_only(self) -> bool:
        """Whether only who is signed in can have a turn."""
        return self.count <= self.taken < self.count + self.extra

    def has_room(self, caller: Caller) -> bool:
        if self.taken >= self.count:
            return not self.is_full and caller.signed_in and not self.count_of(caller)[1]
        if caller.signed_in or not self.reserves:
            return self.of_caller[caller] < self.share
        # of what is left to them, one leaves as much to the others as of the whole
        reserved = self.count // 4
        return self.of_side[False] < self.count - reserved and self.of_caller[caller] < max(1, self.share - reserved)

    def take(self, turn: Turn) -> None:
        self.taken += 1
        self.of_caller[turn.caller] += 1
        self.of_side[turn.caller.signed_in] += 1
        self.reserves = self.reserves or turn.caller.signed_in
        self.of_build[turn.claim.origin] += 1

    def give_back(self, turn: Turn) -> None:
        self.taken -= 1
        count_down(self.of_caller, turn.caller)
        count_down(self.of_side, turn.caller.signed_in)
        count_down(self.of_build, turn.claim.origin)


class Line:
    """Those who wait for `slots`, in order. Nothing here waits, and only the question of who waits involves a clock."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._waiting: dict[Claim, deque[Turn]] = {}
        self._length = 0
        self._may_have_signed_in = True
        """Whether somebody signed in may wait: looking for them takes time for each claim."""

    def __len__(self) -> int:
        return self._length

    def note_arrivals(self) -> None:
        """Somebody else waits for one of the claims now, and may be signed in."""
        self._may_have_signed_in = True

    def over(self, slots: Slots) -> Line:
        """Copy the requests to a line for other slots."""
        line = Line(slots)
        line._waiting = {claim: turns.copy() for claim, turns in self._waiting.items()}
        line._length = self._length
        return line

    def add(self, turn: Turn) -> None:
        self._waiting.setdefault(turn.claim, deque()).append(turn)
        self._length += 1
        self._may_have_signed_in = self._may_have_signed_in or not turn.claim.is_anonymous()

    def remove(self, turn: Turn) -> None:
        turns = self._waiting[turn.claim]
        turns.remove(turn)
        self._length -= 1
        if not turns:
            del self._waiting[turn.claim]

    def next(self) -> Turn | None:
        """Take the next turn from the line and charge it. Returns None if no turn has room."""
        found = self.find()
        if found is None:
            return None
        claim, caller = found
        turn = self._waiting[claim][0]
        self.remove(turn)
        turn.caller = caller
        self._slots.take(turn)
        return turn

    def find(self) -> tuple[Claim, Caller] | None:
        """Whose turn is next, and who will be charged for it."""
        extra_only = self._slots.has_extra_only
        if self._slots.is_full or (extra_only and not self._may_have_signed_in):
            return None
        found_signed_in = False
        best: tuple[tuple[int, bool, int, bool, int, int, int], Claim, Caller] | None = None
        # a dictionary keeps the order in which claims came
        for claim in self._waiting:
            waiting = claim.list_waiting()
            found_signed_in = found_signed_in or any(each.signed_in for each in waiting or {claim.first})
            rank_of = functools.partial(self._slots.rank, claim=claim)
            caller = min(waiting or {claim.first}, key=lambda each: (rank_of(each), each.name))
            if self._slots.has_room(caller):
                rank = (-claim.find_urgency(), not waiting, *rank_of(caller))
                if best is None or rank < best[0]:
                    best = rank, claim, caller
        self._may_have_signed_in = found_signed_in
        return best[1:] if best else None


class GaveWay(Exception):
    """Raised out of a turn that was interrupted for others. Its holder may ask for another turn."""


@dataclass(eq=False, slots=True)
class _Pending(Turn):
    """A turn, as its task sees it."""

    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    slots: Slots | None = None
    """The slots of which it holds one."""
    begun: float = 0.0
    """When it got the first one, by the loop's clock."""
    limit: asyncio.Timeout | None = None
    """Interrupts the turn, if it can be interrupted."""
    interruptible_after: float = math.inf
    """Seconds for which it keeps its slot in any case."""
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class Lane:
    """The slots of one stage: `count` slots, of which a caller gets all but `kept`, and at least one.

    Of four slots or more, all who are not signed in together leave a quarter to those who are, once there are any.
    While all slots are taken, callers who are signed in and have none get one of `extra` more.

    A turn that lasts more than `patience` seconds moves to one of `long` further slots, which are shared in the same
    way. Lanes of one `usage` count what callers have had of all of them. `what` is what a claim waits for here.
    """

    def __init__(
        self,
        count: int,
        *,
        kept: int = 0,
        long: int = 0,
        patience: float = math.inf,
        usage: Usage | None = None,
        extra: int = 0,
        what: str = "a turn",
    ) -> None:
        usage = usage or Usage()
        self._long = Slots(long, max(1, long - max(kept, long // 4)), usage)
        self._slots = Slots(count, max(1, count - kept), usage, self._long, extra)
        self._patience = patience
        self._what = what
        self._line = Line(self._slots)
        self._overdue: dict[_Pending, None] = {}
        """Turns that lasted more than `patience` seconds and found no long slot."""
        self._interruptible: set[_Pending] = set()
        self._going: set[_Pending] = set()
        """Turns that were interrupted and have not left yet."""
        self._dealing: asyncio.Handle | None = None
        """The next time that turns are given out."""
        self._rests_until = -math.inf
        """By the loop's clock."""

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def taken(self) -> int:
        return self._slots.taken + self._long.taken

    @contextlib.asynccontextmanager
    async def turn(self, *, interruptible_after: float = math.inf) -> AsyncIterator[None]:
        """Hold a slot in this context, for the current claim.

        After `interruptible_after` seconds (at least `patience`), the block may end with GaveWay if that lets another
        turn start, and after `patience` if it lets one of a side or a caller with fewer turns start.
        """
        turn = _Pending(current_claim(), interruptible_after=interruptible_after)
        self._line.add(turn)
        if len(self._line) == 1:
            self._deal()
        else:
            self._deal_soon()
        try:
            with turn.claim.watched(self._note_arrivals), turn.claim.waiting_for(self._wait()):
                await turn.granted
            async with asyncio.timeout(None) as turn.limit:
                yield
        except TimeoutError:
            if turn.limit is not None and turn.limit.expired():
                raise GaveWay from None
            raise
        finally:
            self._leave(turn)

    def _wait(self) -> Wait:
        return Wait(self._what, time.monotonic(), lambda: max(len(self._line) - 1, 0))

    def _note_arrivals(self) -> None:
        self._line.note_arrivals()
        self._deal_soon()

    def _deal_soon(self) -> None:
        """Give out turns once for all that happens in this pass of the event loop, and let others have most of it.

        To choose from thousands of claims takes as many microseconds, and anybody can make them come and go.
        """
        if self._dealing is None:
            loop = asyncio.get_running_loop()
            rests = self._rests_until > loop.time()
            self._dealing = loop.call_at(self._rests_until, self._deal) if rests else loop.call_soon(self._deal)

    def _deal(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if self._dealing is not None:
            self._dealing.cancel()
            self._dealing = None
        self._give_out()
        took = loop.time() - begun
        if took > NOTICED:
            self._rests_until = begun + took * (1 + RESTS)

    def _give_out(self) -> None:
        while (turn := self._line.next()) is not None:
            assert isinstance(turn, _Pending)
            turn.slots = self._slots
            turn.begun = asyncio.get_running_loop().time()
            if not turn.granted.done():
                turn.granted.set_result(None)
            self._watch(turn)
        self._interrupt()

    def _watch(self, turn: _Pending) -> None:
        loop = asyncio.get_running_loop()
        if self._patience < math.inf:
            turn.timers.append(loop.call_later(self._patience, self._note_overdue, turn))
        if turn.interruptible_after < math.inf:
            turn.timers.append(loop.call_later(turn.interruptible_after, self._allow_to_interrupt, turn))

    def _leave(self, turn: _Pending) -> None:
        turn.limit = None
        for timer in turn.timers:
            timer.cancel()
        self._overdue.pop(turn, None)
        self._interruptible.discard(turn)
        self._going.discard(turn)
        if turn.slots is None:
            self._line.remove(turn)
        else:
            turn.slots.give_back(turn)
            turn.slots.usage.add(turn.caller, asyncio.get_running_loop().time() - turn.begun)
        self._shift()

    def _note_overdue(self, turn: _Pending) -> None:
        self._overdue[turn] = None
        self._shift()

    def _shift(self) -> None:
        """Move turns that have lasted long to long slots, as far as there are any, and let others start."""
        for turn in list(self._overdue):
            if self._long.has_room(turn.caller):
                del self._overdue[turn]
                self._slots.give_back(turn)
                turn.slots = self._long
                self._long.take(turn)
        if len(self._line):
            self._deal_soon()

    def _allow_to_interrupt(self, turn: _Pending) -> None:
        self._interruptible.add(turn)
        if len(self._line):
            self._deal_soon()

    def _interrupt(self) -> None:
        """Interrupt overdue turns, each only if that lets another start for which the leaving ones make no room."""
        able = [turn for turn in self._overdue if turn.interruptible_after < math.inf and turn.limit is not None]
        if not able or not len(self._line):
            return
        slots = self._slots.copy()
        line = self._line.over(slots)
        for turn in self._going:
            slots.give_back(turn)
        while line.next():
            pass
        for turn in able:
            slots.give_back(turn)
            found = line.find()
            if found is None or not (
                turn in self._interruptible or slots.count_of(turn.caller) > slots.count_of(found[1])
            ):
                slots.take(turn)
                continue
            line.next()
            assert turn.limit is not None
            turn.limit.reschedule(asyncio.get_running_loop().time())
            del self._overdue[turn]
            self._going.add(turn)
