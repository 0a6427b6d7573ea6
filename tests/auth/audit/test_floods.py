"""However many refusals somebody causes, and however they differ, the log has few of them, and their number."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from auth.audit import floods
from auth.audit import log as audit_log
from auth.audit.event import AuditEvent
from auth.audit.log import AuditLog
from auth.audit.reading import AuditFilter, StoredEvent, read_page
from auth.changing import AccessData
from auth.principal import ANONYMOUS, Principal

ALICE = Principal("alice", "person", id="1")
BOB = Principal("bob", "person", id="2")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def refusal(who: Principal, number: int, network: str = "192.0.2.7", action: str = "manifest.pull") -> AuditEvent:
    return AuditEvent.by(who, action, f"team/{number}", "denied", client=network, network=network)


async def stored(data: AccessData, **wanted: str) -> list[StoredEvent]:
    return list(reversed((await read_page(data.database, AuditFilter(**wanted), limit=1000)).events))  # type: ignore[arg-type]  # texts alone


async def test_nobody_has_one_row_a_minute_for_an_action_whatever_it_is_about(data: AccessData) -> None:
    clock = Clock()
    audit = AuditLog(data.database, clock)
    async with audit.writing():
        for number in range(2000):
            audit.note(refusal(ANONYMOUS, number))
        audit.note(refusal(ANONYMOUS, 1, action="manifest.delete"))
        clock.now = 60.0
        audit.note(refusal(ANONYMOUS, 1))
    found = [(each.action, each.entity, each.detail) for each in await stored(data)]
    assert found == [
        ("manifest.pull", "team/0", {}),
        ("manifest.delete", "team/1", {}),
        ("manifest.pull", "", {"more": 1999, "seconds": 60}),
        ("manifest.pull", "team/1", {}),
    ]


async def test_nobody_with_many_addresses_has_as_many_as_one_principal(data: AccessData) -> None:
    audit = AuditLog(data.database, Clock())
    async with audit.writing():
        for number in range(5000):
            audit.note(refusal(ANONYMOUS, number, f"2001:db8:0:{number:x}::/64"))
    *single, more = await stored(data)
    assert len(single) == floods.MOST_OF_ONE
    assert more.detail["more"] == 5000 - floods.MOST_OF_ONE
    assert more.client == ""


async def test_failed_sign_ins_of_anybody_are_few_and_no_other_refusal_hides_them(data: AccessData) -> None:
    audit = AuditLog(data.database, Clock())
    async with audit.writing():
        for number in range(1000):
            audit.note(refusal(ANONYMOUS, number, f"192.0.2.{number % 250}"))
        for number in range(1000):
            audit.note(refusal(ANONYMOUS, number, action="sign-in"))
    found = await stored(data, action="sign-in")
    assert len(found) == floods.MOST_FROM_ONE + 1
    assert found[-1].detail["more"] == 1000 - floods.MOST_FROM_ONE


async def test_who_is_signed_in_has_some_of_each_client_and_hides_nobody_else(data: AccessData) -> None:
    audit = AuditLog(data.database, Clock())
    async with audit.writing():
        for number in range(1000):
            audit.note(refusal(ALICE, number, "192.0.2.7", ("manifest.pull", "tags.list")[number % 2]))
        for number in range(3):
            # the same account from elsewhere, and another one
            audit.note(refusal(ALICE, number, "198.51.100.9"))
            audit.note(refusal(BOB, number))
    found = await stored(data, principal="alice")
    assert len(found) == floods.MOST_FROM_ONE + 3 + 1
    assert (found[-1].action, found[-1].client) == (floods.SEVERAL, "192.0.2.7")
    assert len(await stored(data, principal="bob")) == 3


async def test_all_together_are_bounded(data: AccessData) -> None:
    clock = Clock()
    audit = AuditLog(data.database, clock)
    for number in range(5000):
        audit.note(refusal(Principal(f"p{number}", "workload", id=str(number)), number))
    assert len(audit._waiting) == floods.MOST
    assert len(audit._floods._noted) < 2 * floods.MOST + 10
    assert len(audit._floods._left_out) == 1


async def test_repetitions_of_the_same_are_not_counted(data: AccessData) -> None:
    audit = AuditLog(data.database, Clock())
    async with audit.writing():
        for _ in range(1000):
            audit.note(refusal(ALICE, 1))
    assert [each.entity for each in await stored(data)] == ["team/1"]


async def test_what_was_left_out_is_told_although_nothing_else_happens(
    data: AccessData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floods, "SECONDS", 0.2)
    monkeypatch.setattr(audit_log, "FLUSH_SECONDS", 0.01)
    audit = AuditLog(data.database)
    async with audit.writing(), asyncio.timeout(20):
        for number in range(10):
            audit.note(refusal(ANONYMOUS, number))
        while sum(each.detail.get("more", 0) + (each.entity != "") for each in await stored(data)) < 10:
            await asyncio.sleep(0.02)


async def test_changes_find_a_place_whatever_was_refused_or_read(
    data: AccessData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away, say."""
    monkeypatch.setattr(audit_log, "MOST_LESSER_WAITING", 10)
    audit = AuditLog(data.database, Clock())
    for number in range(100):
        audit.note(refusal(Principal(f"p{number}", "person", id=str(number)), number))
        audit.note(AuditEvent.by(ALICE, "manifest.pull", f"team/{number}"))
    audit.note(AuditEvent.by(ALICE, "manifest.push", "team/1"))
    async with audit.writing():
        pass
    found = await stored(data)
    assert len(found) == 11
    assert found[-1].action == "manifest.push"


async def test_text_has_bounds_in_the_structured_log_too(data: AccessData) -> None:
    audit = AuditLog(data.database, Clock())
    with capture_logs() as lines:
        audit.note(
            AuditEvent(
                "x" * 9999, "person", "sign-in", "a\nb\x1b" + "y" * 99_999, "denied", detail={"reason": "z" * 99_999}
            )
        )
    [line] = lines
    assert sum(len(str(value)) for value in line.values()) < 2500
    assert str(line["entity"]).startswith("a\\x0ab\\x1b")
