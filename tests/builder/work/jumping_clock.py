"""An event loop whose clock waits for nobody, for tests of what happens after some time."""

from __future__ import annotations

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for the next timer it notes how long it would have waited."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(None if timeout is None else 0)
        if not events and timeout:
            self.waited += timeout
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its time stands still while anything runs, and jumps to the next timer when everything waits.

    So a machine that is busy is as fast as any other, and nobody waits for sleepers. Work in threads takes no time.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.waited
