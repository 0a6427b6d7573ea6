"""What the row of a build says of it."""

from __future__ import annotations

import time
from math import inf

from builder.queue.job import Job
from builder.queue.owner import Owner, is_running
from storage.catalog.builds import BuildRow
from storage.clock import is_within

LEASE_SECONDS = 15.0
SEEN_LEASE_SECONDS = 60.0
"""After this much silence even a running process loses its builds: it hangs, or has forgotten them."""


def read_job(row: BuildRow) -> Job | None:
    """Read a row's job. Returns None if its version writes other jobs, or makes other keys from them."""
    try:
        job = Job.from_json(row.request)
    except (KeyError, TypeError, ValueError):
        return None
    return job if job.key == row.key else None


def count_deaths(row: BuildRow) -> int:
    """Count the processes that died while they worked on a build, by its row before it was taken.

    A process that let it go did not die, and one for which it only waited does not count.
    """
    return row.attempts - 1 + (bool(row.owner) and row.status == "BUILDING")


def is_dead(row: BuildRow, us: Owner) -> bool:
    """Whether nobody works on an unfinished build: its owner let it go, is gone, or has been silent for too long."""
    if not row.owner:
        return True
    owner = Owner.parse(row.owner)
    running = is_running(owner) if owner and us.can_see(owner) else None
    lease = SEEN_LEASE_SECONDS if running else LEASE_SECONDS
    return running is False or not is_within(lease, row.heartbeat, row.now)


def measure_age(row: BuildRow, started: float) -> float:
    """Return the seconds since a build was requested, if its row was read at `started` on the monotonic clock."""
    return row.now - row.created + time.monotonic() - started


def is_since(begun: float, row: BuildRow) -> bool:
    """Whether a build ended after `begun` on the monotonic clock, as far as the database's clock is right."""
    assert row.ended is not None
    return is_within(inf, row.ended, row.now) and row.now - row.ended <= time.monotonic() - begun
