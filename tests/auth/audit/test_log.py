"""What is noted is written, in its order, once, and never at the cost of whoever notes it."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from auth.audit import log as audit_log
from auth.audit.event import AuditEvent
from auth.audit.log import AuditLog, append, prune
from auth.audit.reading import AuditFilter, read_page
from auth.changing import AccessData
from auth.principal import Principal
from storage.database import account_tables
from storage.errors import StorageUnavailable

ALICE = Principal("alice", "person", id="1", token="t1")


def push(number: int, **changed: object) -> AuditEvent:
    return AuditEvent.by(ALICE, "manifest.push", f"team/image{number}", **changed)  # type: ignore[arg-type]  # fields


async def count(data: AccessData) -> int:
    async with data.database.reading() as connection:
        found = await connection.execute(select(func.count()).select_from(account_tables.audit))
        return int(found.scalar_one())


async def test_everything_noted_is_there_in_its_order(data: AccessData) -> None:
    audit = AuditLog(data.database)
    async with audit.writing():
        for number in range(1200):
            audit.note(push(number, client="192.0.2.7", request="r1", detail={"tag": "v1"}))
    page = await read_page(data.database, limit=1000)
    older = await read_page(data.database, before=page.before, limit=1000)
    assert [each.entity for each in (*page.events, *older.events)] == [f"team/image{n}" for n in reversed(range(1200))]
    assert older.before is None
    newest = page.events[0]
    assert (newest.principal, newest.principal_kind, newest.token) == ("alice", "person", "t1")
    assert (newest.client, newest.outcome, newest.detail) == ("192.0.2.7", "allowed", {"tag": "v1"})


async def test_a_change_and_its_event_are_one(data: AccessData) -> None:
    async def fail() -> None:
        async with data.changing() as connection:
            await append(connection, push(1))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()
    assert await count(data) == 0
    async with data.changing() as connection:
        await append(connection, push(1))
    assert await count(data) == 1


async def test_what_cannot_be_written_is_written_later(data: AccessData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(audit_log, "FLUSH_SECONDS", 0.01)
    failures = iter([True, True, False])
    insert = audit_log.insert_events

    async def fail_first(connection: object, events: list[AuditEvent]) -> None:
        if next(failures, False):
            raise StorageUnavailable("the database", "it is away")
        await insert(connection, events)  # type: ignore[arg-type]  # what it was called with

    monkeypatch.setattr(audit_log, "insert_events", fail_first)
    audit = AuditLog(data.database)
    with capture_logs() as lines:
        async with audit.writing():
            audit.note(push(1))
            while next(iter(audit._waiting), None):
                await asyncio.sleep(0.01)
    assert await count(data) == 1
    assert len([line for line in lines if line["event"] == "the audit log cannot be written"]) == 2


async def test_an_event_that_cannot_be_written_is_left_out_alone(
    data: AccessData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "FLUSH_SECONDS", 0.01)
    audit = AuditLog(data.database)
    with capture_logs() as lines:
        async with audit.writing(), asyncio.timeout(20):
            for number in range(3):
                # no JSON has such a number
                audit.note(push(number, detail={"size": 1 << 70} if number == 1 else {}))
            while audit._waiting:
                await asyncio.sleep(0.01)
            audit.note(push(3))
            while audit._waiting:
                await asyncio.sleep(0.01)
    page = await read_page(data.database)
    assert [each.entity for each in page.events] == ["team/image3", "team/image2", "team/image0"]
    left_out = [line for line in lines if line["event"] == "an event of the audit log is left out"]
    assert [line["action"] for line in left_out] == ["manifest.push"]


async def test_a_flood_of_one_refusal_is_one_row(data: AccessData) -> None:
    audit = AuditLog(data.database)
    async with audit.writing():
        for _ in range(5000):
            audit.note(push(1, outcome="denied", client="192.0.2.7"))
        audit.note(push(2, outcome="denied", client="192.0.2.7"))
    assert await count(data) == 2


async def test_memory_is_bounded_and_what_is_dropped_is_told(data: AccessData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MOST_WAITING", 10)
    monkeypatch.setattr(audit_log, "FLUSH_SECONDS", 0.01)
    audit = AuditLog(data.database)
    with capture_logs() as lines:
        for number in range(15):
            audit.note(push(number))
        async with audit.writing():
            while audit._waiting or audit._dropped:
                await asyncio.sleep(0.01)
    assert await count(data) == 10
    assert [line["count"] for line in lines if line["event"] == "events of the audit log were dropped"] == [5]
    # every event is in the structured log, also those the table lacks
    assert len([line for line in lines if line["event"] == "audit"]) == 15


async def test_text_from_outside_is_printable_and_fits(data: AccessData) -> None:
    audit = AuditLog(data.database)
    async with audit.writing():
        audit.note(
            AuditEvent.by(Principal("x\x1b[31m" + "y" * 999), "sign-in", "\u202eevil\x00" + "z" * 9999, "denied")
        )
    [event] = (await read_page(data.database)).events
    assert event.principal.isprintable()
    assert event.entity.isprintable()
    assert len(event.principal) <= 255
    assert len(event.entity) <= 512


FILTERS = [
    (AuditFilter(principal="alice"), {1, 3}),
    (AuditFilter(action="tag.delete"), {2}),
    (AuditFilter(entity="team/b"), {2}),
    (AuditFilter(entity="team/*"), {1, 2}),
    # a `_` or `%` is no wildcard
    (AuditFilter(entity="te_m/*"), set()),
    (AuditFilter(outcome="denied"), {3}),
    (AuditFilter(since=2.0), {2, 3}),
    (AuditFilter(until=2.0), {1}),
    (AuditFilter(principal="alice", outcome="denied"), {3}),
    (AuditFilter(principal="' OR 1=1 --"), set()),
]


@pytest.mark.parametrize(("wanted", "found"), FILTERS)
async def test_filters(data: AccessData, wanted: AuditFilter, found: set[float]) -> None:
    events = [
        AuditEvent("alice", "person", "manifest.push", "team/a", "allowed", time=1.0),
        AuditEvent("bob", "person", "tag.delete", "team/b", "allowed", time=2.0),
        AuditEvent("alice", "person", "manifest.push", "other/c", "denied", time=3.0),
    ]
    async with data.changing() as connection:
        for event in events:
            await append(connection, event)
    assert {each.time for each in (await read_page(data.database, wanted)).events} == found


async def test_old_events_are_pruned(data: AccessData) -> None:
    async with data.changing() as connection:
        for time in (1.0, 2.0, 3.0):
            await append(connection, push(1, time=time))
    assert await prune(data.database, 2.5) == 2
    assert await count(data) == 1
