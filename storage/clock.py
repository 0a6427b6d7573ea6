"""Times that were stored, read by a clock that may have been wrong when they were written."""

from __future__ import annotations

import time

SKEW_SECONDS = 5.0
"""By which the clocks of machines that share a database may differ."""

USE_SECONDS = 3600.0
"""That something was asked for is written down at most once in this time, so a note of it may be that much too old."""

IN_USE_SECONDS = 2 * USE_SECONDS
"""What is noted as used within this time may be in use."""


def is_within(seconds: float, then: float, now: float | None = None) -> bool:
    """Whether `then` (UNIX seconds) is less than `seconds` ago.

    A time in the future was written by a clock that was ahead. It counts as long ago, or what such a clock did once
    would stay for as long as it was ahead.
    """
    now = time.time() if now is None else now
    return -SKEW_SECONDS <= now - then < seconds
