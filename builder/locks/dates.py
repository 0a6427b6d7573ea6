"""Dates of packages, which channels write in seconds or in milliseconds, and which somebody else chose."""

from __future__ import annotations

import datetime
from typing import NamedTuple

EARLIEST = 253_402_300_800
"""As milliseconds, in 1978, before any package. A smaller number is in seconds, as rattler and conda read it."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)
_FIRST = _EPOCH + EARLIEST * _MILLISECOND


class Dates(NamedTuple):
    """When a package was made and since when its channel has had it, in milliseconds UTC; None where nobody says."""

    timestamp: int | None
    since: int | None

    @property
    def age_start(self) -> int | None:
        """The time from which the package's age is counted."""
        return self.timestamp if self.since is None else self.since


def read_dates(timestamp: int | None, since: int | None) -> Dates:
    """Dates as a lock has them."""
    return Dates(_read_number(timestamp), _read_number(since))


def read_record_dates(timestamp: datetime.datetime | int | None, indexed: datetime.datetime | None) -> Dates:
    """Dates as rattler has them: of a `timestamp` it knows the unit, while it takes every `indexed` for milliseconds.

    A timestamp of 0 it gives as that number.
    """
    made = timestamp if isinstance(timestamp, datetime.datetime) and timestamp >= _FIRST else None
    return Dates(_in_milliseconds(made) if made else None, _read_number(_in_milliseconds(indexed) if indexed else None))


def _read_number(number: int | None) -> int | None:
    """Milliseconds; None for a number that is no date, so that nothing is old for having one."""
    if number is None:
        return None
    number = number * 1000 if number < EARLIEST else number
    return number if number >= EARLIEST else None


def _in_milliseconds(moment: datetime.datetime) -> int:
    return round((moment - _EPOCH) / _MILLISECOND)
