"""The outbox and leases, on both databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from storage.database.engine import Database
from storage.database.leases import Leases
from storage.events.outbox import Event, Outbox, insert_events


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database.open(database_url)
    yield database
    await database.close()


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


async def ids(outbox: Outbox, endpoint: str = "a", limit: int = 100) -> list[str]:
    return [event.id for event in await outbox.next(endpoint, limit)]


async def test_each_endpoint_has_its_events_in_their_order_until_it_has_taken_them(outbox: Outbox) -> None:
    await outbox.put(Event(endpoint, number, f"{{{number}}}") for endpoint in "ab" for number in ("3", "1", "2"))
    assert await ids(outbox) == ["1", "2", "3"]
    assert await ids(outbox, limit=2) == ["1", "2"]
    assert [event.document for event in await outbox.next("b", 1)] == ["{1}"]
    await outbox.forget("a", ["1", "3"])
    assert await ids(outbox) == ["2"]
    assert await ids(outbox, "b") == ["1", "2", "3"]


async def test_what_failed_waits_and_what_is_behind_it_does_not(outbox: Outbox) -> None:
    await outbox.put(Event("a", number, "") for number in "12")
    await outbox.count_failure("a", "1", time.time() + 3600)
    assert await ids(outbox) == ["2"]
    await outbox.count_failure("a", "1", time.time())
    assert [(event.id, event.attempts) for event in await outbox.next("a", 9)] == [("1", 2), ("2", 0)]


async def test_what_is_old_is_given_up_where_it_is_said(outbox: Outbox) -> None:
    await outbox.put(Event(endpoint, "1", "") for endpoint in "abc")
    now = time.time() + 1
    assert await outbox.give_up(now - 3600, "a") == 0
    assert await outbox.give_up(now, "a") == 1
    assert await outbox.give_up_others(now, ["a", "b"]) == 1
    assert (await ids(outbox, "b"), await ids(outbox, "c")) == (["1"], [])


async def test_room(outbox: Outbox) -> None:
    await outbox.put(Event("a", str(number), "") for number in range(3))
    assert await outbox.has_room("a", 4)
    assert not await outbox.has_room("a", 3)
    assert await outbox.has_room("b", 1)


async def test_an_event_goes_with_its_transaction(database: Database, outbox: Outbox) -> None:
    async def broken_change() -> None:
        async with database.writing() as connection:
            await insert_events(connection, [Event("a", "1", "")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken_change()
    assert await ids(outbox) == []


async def test_a_lease_has_one_holder(database: Database) -> None:
    leases = Leases(database)
    taken = await asyncio.gather(*(leases.take("l", f"owner {number}", 60) for number in range(8)))
    assert taken.count(True) == 1
    holder = f"owner {taken.index(True)}"
    assert await leases.take("l", holder, 60)
    assert not await leases.take("l", "another", 60)
    assert await leases.take("other", "another", 60)
    await leases.give_up("l", "another")
    assert not await leases.take("l", "another", 60)
    await leases.give_up("l", holder)
    assert await leases.take("l", "another", 60)


async def test_a_lease_that_has_ended_is_anybodys(database: Database) -> None:
    leases = Leases(database)
    assert await leases.take("l", "dead", -1)
    taken = await asyncio.gather(*(leases.take("l", f"owner {number}", 60) for number in range(4)))
    assert taken.count(True) == 1
    assert not await leases.take("l", "dead", 60)
