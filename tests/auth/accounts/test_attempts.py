"""How often somebody may be wrong, and whom the failures of others keep out: nobody who was here before."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

from auth.accounts import attempts as module
from auth.accounts.attempts import Attempts
from auth.errors import TooManyAttempts

MOST = 10
HERE, THERE = "192.0.2.1", "198.51.100.0"


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names share a count now and then, and a test must not depend on it."""
    monkeypatch.setattr(module, "BUCKETS", 2**60)


RIGHT, WRONG = "correct horse", "wrong"


def fail(attempts: Attempts, name: str, network: str, password: str = WRONG) -> None:
    with attempts.of(name, password, network):
        pass


def succeed(attempts: Attempts, name: str, network: str) -> bool:
    """Returns whether it was known to be right."""
    with attempts.of(name, RIGHT, network) as attempt:
        attempt.succeeded = True
    return attempt.known


def count_until_refused(attempts: Attempts, pairs: list[tuple[str, str]]) -> int:
    for count, (name, network) in enumerate(pairs):
        try:
            fail(attempts, name, network)
        except TooManyAttempts:
            return count
    return len(pairs)


def test_guessing_at_one_account_has_to_wait() -> None:
    attempts = Attempts(MOST)
    assert count_until_refused(attempts, [("alice", HERE)] * 100) == MOST // 2
    # and so has the right password from there
    with pytest.raises(TooManyAttempts) as raised:
        succeed(attempts, "alice", HERE)
    assert 1 <= raised.value.retry_after <= 60
    fail(attempts, "bob", HERE)
    fail(attempts, "alice", THERE)


def test_trying_many_accounts_has_to_wait() -> None:
    attempts = Attempts(MOST)
    assert count_until_refused(attempts, [(f"user{n}", HERE) for n in range(100)]) == MOST
    fail(attempts, "user0", THERE)


def test_guessing_from_many_addresses_has_to_wait() -> None:
    attempts = Attempts(MOST)
    pairs = [("alice", f"198.51.100.{n % 100}") for n in range(300)]
    assert count_until_refused(attempts, pairs) == 10 * MOST
    fail(attempts, "bob", HERE)


def test_a_flood_for_a_name_keeps_nobody_out_who_comes_from_elsewhere() -> None:
    attempts = Attempts(MOST)
    for number in range(2000):
        with contextlib.suppress(TooManyAttempts):
            fail(attempts, "alice", f"198.51.100.{number % 100}")
    assert not succeed(attempts, "alice", HERE)
    # whoever mistypes once can wait
    fail(attempts, "alice", "192.0.2.2")
    with pytest.raises(TooManyAttempts):
        fail(attempts, "alice", "192.0.2.2")


def test_whoever_was_right_before_never_waits() -> None:
    attempts = Attempts(MOST)
    assert not succeed(attempts, "alice", HERE)
    for network in (HERE, *(f"198.51.100.{number}" for number in range(200))):
        count_until_refused(attempts, [("alice", network)] * 20)
    count_until_refused(attempts, [(f"user{n}", HERE) for n in range(100)])
    for network in (HERE, THERE, "198.51.100.7"):
        assert succeed(attempts, "alice", network)
    # another password is a guess there, and so is this one for another name
    count_until_refused(attempts, [("alice", HERE)] * 20)
    with pytest.raises(TooManyAttempts):
        fail(attempts, "alice", HERE)
    with pytest.raises(TooManyAttempts):
        succeed(attempts, "bob", HERE)


def test_what_was_right_before_and_is_wrong_now_is_a_guess_again() -> None:
    attempts = Attempts(MOST)
    succeed(attempts, "alice", HERE)
    fail(attempts, "alice", HERE, RIGHT)
    count_until_refused(attempts, [("alice", HERE)] * 20)
    with pytest.raises(TooManyAttempts):
        succeed(attempts, "alice", HERE)


def test_success_forgives_what_was_mistyped() -> None:
    attempts = Attempts(10 * MOST)
    for number in range(2):
        for _ in range(5 * MOST - 1):
            fail(attempts, "alice", HERE)
        with attempts.of("alice", f"right {number}", HERE) as attempt:
            attempt.succeeded = True


def test_those_that_are_being_checked_count_as_well() -> None:
    attempts = Attempts(MOST)
    with_many = [attempts.of("alice", WRONG, HERE) for _ in range(MOST // 2)]
    for each in with_many:
        each.__enter__()
    with pytest.raises(TooManyAttempts):
        fail(attempts, "alice", HERE)
    for each in with_many:
        each.__exit__(None, None, None)
    with pytest.raises(TooManyAttempts):
        fail(attempts, "alice", HERE)


def test_what_could_not_be_checked_is_no_failure() -> None:
    attempts = Attempts(MOST)
    for _ in range(100):
        with pytest.raises(RuntimeError), attempts.of("alice", WRONG, HERE):
            raise RuntimeError
    succeed(attempts, "alice", HERE)
    assert not attempts._running


def test_one_failure_may_be_the_limit() -> None:
    attempts = Attempts(1)
    assert count_until_refused(attempts, [("alice", HERE)] * 3) == 1


async def test_the_wait_ends() -> None:
    attempts = Attempts(MOST, seconds=1)
    assert count_until_refused(attempts, [("alice", HERE)] * 100) == MOST // 2
    while True:
        try:
            succeed(attempts, "alice", HERE)
        except TooManyAttempts as error:
            await asyncio.sleep(error.retry_after)
        else:
            break


def test_memory_is_bounded_whatever_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKETS", 16)
    monkeypatch.setattr(module, "MOST_KNOWN", 8)
    attempts = Attempts(10_000)
    for number in range(500):
        fail(attempts, f"{'x' * 1000}{number}\ud800\0", f"{number}")
        succeed(attempts, f"{number}", "")
    storage = attempts._windows.storage
    assert len(storage.storage) <= 3 * 16  # type: ignore[attr-defined]  # of limits' store in memory
    assert len(attempts._known) == 8
    assert sum(sys.getsizeof(each) for each in attempts._known) < 10_000


def test_a_password_counts_once_however_it_is_written() -> None:
    attempts = Attempts(MOST)
    for number in range(100):
        with attempts.of("alice", "x" * 9 + "\u212b" * number + "\u00c5" * (100 - number), HERE) as attempt:
            attempt.succeeded = True
        assert attempt.known == (number > 0)
    assert len(attempts._known) == 1
