"""What was found out about access holds until access changes, or its own time is over."""

from __future__ import annotations

import pytest

from auth import remembered
from auth.changing import AccessData
from auth.remembered import RememberedAnswer, RememberedAnswers


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(remembered, "time", clock)
    return clock


async def change(data: AccessData) -> None:
    async with data.changing():
        pass


async def test_an_answer_holds_until_access_changes_or_its_time_is_over(data: AccessData, clock: Clock) -> None:
    answers: RememberedAnswers[str, int] = RememberedAnswers(data, 8)
    answers.keep("a", 1, data.stamp, 10)
    answers.keep("for ever", 2, data.stamp)
    assert (answers.find("a"), answers.find("for ever"), answers.find("b")) == (1, 2, None)
    clock.now += 10
    assert (answers.find("a"), answers.find_old("a"), answers.find("for ever")) == (None, None, 2)
    await change(data)
    assert (answers.find("for ever"), answers.find_old("for ever")) == (None, 2)


async def test_a_change_while_something_is_found_out_is_not_missed(data: AccessData) -> None:
    answers: RememberedAnswers[str, int] = RememberedAnswers(data, 8)
    answer: RememberedAnswer[int] = RememberedAnswer(data)
    stamp = data.stamp
    await change(data)
    answers.keep("a", 1, stamp)
    answer.keep(1, stamp)
    assert (answers.find("a"), answer.find()) == (None, None)
    answer.keep(2, data.stamp)
    assert answer.find() == 2


async def test_what_replaces_an_answer_lasts_no_longer(data: AccessData, clock: Clock) -> None:
    answers: RememberedAnswers[str, int] = RememberedAnswers(data, 8)
    for key, seconds in (("longer", 60), ("shorter", 5)):
        answers.keep(key, 1, data.stamp, 10)
        answers.replace(key, 2, data.stamp, seconds)
    answers.keep("forgotten", 1, data.stamp)
    answers.forget("forgotten")
    answers.replace("forgotten", 2, data.stamp)
    assert [answers.find(key) for key in ("longer", "shorter", "forgotten")] == [2, 2, None]
    clock.now += 5
    assert (answers.find("longer"), answers.find("shorter")) == (2, None)
    clock.now += 5
    assert answers.find("longer") is None


async def test_who_cannot_hear_of_changes_remembers_nothing(data: AccessData) -> None:
    answers: RememberedAnswers[str, int] = RememberedAnswers(data, 8)
    answers.keep("a", 1, data.stamp)
    data._changes.blind = True
    assert answers.find("a") is None


async def test_memory_is_bounded(data: AccessData) -> None:
    answers: RememberedAnswers[int, int] = RememberedAnswers(data, 8)
    for number in range(100):
        answers.keep(number, number, data.stamp)
        assert answers.find(0) == 0, "what is asked for is not forgotten"
    assert len(answers._entries) == 8
