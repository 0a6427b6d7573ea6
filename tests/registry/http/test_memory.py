"""What a server remembers of tags, while its clock is wrong."""

from __future__ import annotations

import time

import pytest

from registry.http.manifests import Variants
from registry.http.memory import Memory

YEAR = 365 * 86400.0


def test_a_tag_is_forgotten_in_its_time_when_a_clock_that_was_ahead_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, right = Memory(1_000_000, 0.05), time.time
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: right() + YEAR)
        memory.keep_tag("team/a", "latest", Variants.of([], time.time() + 3600), 1)
        assert memory.tag("team/a", "latest", 1) is not None
    time.sleep(0.06)
    assert memory.tag("team/a", "latest", 1) is None


def test_a_tag_is_not_remembered_beyond_what_is_said_of_it() -> None:
    memory = Memory(1_000_000, 60)
    memory.keep_tag("team/a", "latest", Variants.of([], time.time() - 1), 1)
    assert memory.tag("team/a", "latest", 1) is None
