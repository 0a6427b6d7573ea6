"""Stored times, read with a clock that may have been wrong when they were written."""

from __future__ import annotations

import time
from datetime import UTC, datetime

DAY = 24 * 3600.0
"""Seconds."""

SKEW_SECONDS = 5.0
"""How far the clocks of machines that share a database may differ."""

USE_SECONDS = 3600.0
"""A use is recorded at most once in this time, so the recorded time may be that much too early."""

IN_USE_SECONDS = 2 * USE_SECONDS
"""Content with a recorded use within this time may still be in use."""


def iso(seconds: float) -> str:
    """UNIX seconds in ISO 8601, as people and programs read them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_within(seconds: float, then: float, now: float | None = None) -> bool:
    """Whether `then` (UNIX seconds) is less than `seconds` ago.

    A time in the future was written by a clock that was ahead. It counts as long ago; otherwise its effect would last
    for as long as the clock was ahead.
    """
    now = time.time() if now is None else now
    return -SKEW_SECONDS <= now - then < seconds
