"""Token buckets: what one sender may do, whatever the others do, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.work import buckets
from builder.work.buckets import Buckets


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_and_then_one_after_another() -> None:
    clock = Clock()
    bucket = Buckets(2, 5, clock)
    assert [bucket.take("a") for _ in range(5)] == [0] * 5
    assert bucket.take("a") == 0.5
    assert bucket.take("b") == 0
    clock.now += 0.5
    assert (bucket.take("a"), bucket.take("a")) == (0, 0.5), "what was refused took nothing"
    clock.now += 3600
    assert [bucket.take("a") for _ in range(5)] == [0] * 5
    assert bucket.take("a") == 0.5, "a bucket never holds more than at the start"


@given(st.lists(st.floats(0, 3), max_size=60), st.sampled_from([0.5, 1, 4]), st.integers(1, 8))
def test_no_time_has_more_than_its_rate_and_one_bucket(pauses: list[float], rate: float, most: int) -> None:
    clock = Clock()
    bucket, taken = Buckets(rate, most, clock), list[float]()
    for pause in pauses:
        clock.now += pause
        wait = bucket.take("a")
        if not wait:
            taken.append(clock.now)
            continue
        clock.now += wait + 1e-9
        assert bucket.take("a") == 0, "the seconds to wait are enough"
        taken.append(clock.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= most + rate * (taken[last] - taken[first]) + 1e-6


def test_a_flood_of_senders_does_not_grow() -> None:
    bucket = Buckets(0.001, 2, Clock())
    for number in range(2 * buckets.MOST_KEYS):
        bucket.take(number)
        if number % 1000 == 0:
            taken = bucket.take("busy")
            assert number < 2000 or taken > 0, "whoever keeps asking is not forgotten"
    assert bucket.remembered == buckets.MOST_KEYS
