"""Whose unfinished build may be taken over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.queue.owner import Owner
from builder.queue.rows import LEASE_SECONDS, SEEN_LEASE_SECONDS, is_dead
from storage.catalog.builds import BuildRow

US = Owner.new()
ALIVE = replace(US, random="another engine of this process")
GONE = replace(US, started="1")
"""Its process id is another's by now."""


def row(owner: Owner | str, silent: float) -> BuildRow:
    now = 1e9
    return BuildRow(
        "id",
        "key",
        {},
        "BUILDING",
        str(owner),
        now - silent,
        1,
        now - 100,
        None,
        None,
        None,
        None,
        None,
        0,
        "",
        None,
        now,
    )


@pytest.mark.parametrize(
    ("owner", "silent", "dead"),
    [
        (ALIVE, LEASE_SECONDS + 1, False),
        (ALIVE, SEEN_LEASE_SECONDS + 1, True),
        (GONE, 0, True),
        # the same host name and process id mean nothing elsewhere: nobody but the lease tells
        (replace(GONE, boot="another machine"), 0, False),
        (replace(GONE, namespace="a container"), 0, False),
        (replace(GONE, boot=""), 0, False),
        (replace(ALIVE, boot="before a reboot"), LEASE_SECONDS + 1, True),
        (replace(ALIVE, namespace="a container"), LEASE_SECONDS + 1, True),
        (f"{US.host}/1/1", 0, False),
        (f"{US.host}/1/1", LEASE_SECONDS + 1, True),
        ("", 0, True),
        # the database's clock was ahead then
        (replace(ALIVE, boot="x"), -3600, True),
    ],
)
def test_who_is_dead(owner: Owner | str, silent: float, dead: bool) -> None:
    assert is_dead(row(owner, silent), US) is dead


def test_where_nothing_can_be_seen_the_lease_tells() -> None:
    blind = replace(US, boot="", namespace="")
    assert not is_dead(row(GONE, 0), blind)
    assert is_dead(row(ALIVE, LEASE_SECONDS + 1), blind)
