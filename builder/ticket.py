"""A claim to a result that exists already or is being made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from builder.errors import BuildFailed
from builder.names.spec import EnvironmentSpec
from builder.queue.protocol import CompletedBuild, SubmittedBuild
from builder.work.claims import OURSELVES, Caller

T = TypeVar("T")


class Ticket(Generic[T]):
    """A claim of `caller` to a result that exists already or is being made.

    `stale` is None if the result is the one requested. If it answers while that one is being made, `stale` is empty, or
    says why the new one cannot be made.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        caller: Caller = OURSELVES,
        *,
        ready: T | None = None,
        stale: str | None = None,
        build: SubmittedBuild | None = None,
        fetch: Callable[[CompletedBuild], Awaitable[T | None]] | None = None,
    ) -> None:
        self.spec = spec
        self.stale = stale
        self._caller = caller
        self._ready = ready
        self._build = build
        self._fetch = fetch

    @property
    def build_id(self) -> str:
        """The build that makes the result; empty if none was needed."""
        return self._build.id if self._build else ""

    async def wait(self, seconds: float | None) -> T | None:
        """Return the result, or None if it is not ready after `seconds`. Raises BuildFailed.

        A cancelled caller does not disturb the build.
        """
        if self._ready is not None:
            return self._ready
        assert self._build is not None
        assert self._fetch is not None
        completed = await self._build.wait(seconds, self._caller)
        if completed is None:
            return None
        self._ready = await self._fetch(completed)
        if self._ready is None:
            raise BuildFailed(completed.id, "Collected", "what was built has already been deleted; ask again")
        return self._ready
