"""Who reads about a namespace reads nothing of an earlier one of its name."""

from __future__ import annotations

import time
from dataclasses import replace

from auth.audit.event import AuditEvent
from auth.audit.log import append
from auth.audit.reading import AuditFilter, read_page
from auth.principal import Principal
from tests.support.auth.opened import TESTER, Opened

ALICE = Principal("alice", "person", id="1", token="t1")


async def note(opened: Opened, entity: str, *, at: float | None = None) -> None:
    event = AuditEvent.by(ALICE, "manifest.push", entity)
    async with opened.data.changing() as connection:
        await append(connection, event if at is None else replace(event, time=at))


async def pushed(opened: Opened, namespace: str) -> list[str]:
    page = await read_page(opened.data.database, AuditFilter(namespace=namespace))
    return [each.entity for each in page.events if each.action == "manifest.push"]


async def test_a_new_person_reads_nothing_of_an_earlier_one(opened: Opened) -> None:
    await opened.add_person("dave")
    await note(opened, "dave/old")
    assert await pushed(opened, "dave") == ["dave/old"]
    await opened.accounts.delete("dave", by=TESTER)
    assert await pushed(opened, "dave") == []
    await opened.add_person("dave")
    await note(opened, "dave/new")
    await note(opened, "davetwo/x")
    await note(opened, "Dave/x")
    assert await pushed(opened, "dave") == ["dave/new"]
    # an operator reads all of it
    page = await read_page(opened.data.database, AuditFilter(entity="dave/*"))
    assert [each.entity for each in page.events] == ["dave/new", "dave/old"]


async def test_nor_of_repositories_that_were_deleted_before_they_came(opened: Opened) -> None:
    await note(opened, "dave/old")
    await opened.add_person("dave")
    assert await pushed(opened, "dave") == []


async def test_what_was_noted_before_and_written_after_is_of_before(opened: Opened) -> None:
    before = time.time() - 1
    await opened.add_person("dave")
    await note(opened, "dave/old", at=before)
    assert await pushed(opened, "dave") == []


async def test_who_is_given_a_namespace_reads_about_it(opened: Opened) -> None:
    await opened.namespaces.create("team", by=TESTER)
    await note(opened, "team/app")
    await opened.accounts.add_person("team", None, by=TESTER, take_namespace=True)
    assert await pushed(opened, "team") == ["team/app"]
    await opened.accounts.delete("team", by=TESTER)
    await opened.accounts.add_person("team", None, by=TESTER, take_namespace=True)
    assert await pushed(opened, "team") == [], "nothing of the person before"


async def test_a_deleted_namespace_begins_anew(opened: Opened) -> None:
    await note(opened, "team/first")
    await opened.namespaces.create("team", by=TESTER)
    assert await pushed(opened, "team") == ["team/first"], "one needs not be created to be there"
    await opened.namespaces.delete("team", by=TESTER)
    await opened.namespaces.create("team", by=TESTER)
    await note(opened, "team/second")
    assert await pushed(opened, "team") == ["team/second"]
    await opened.accounts.add_robot("team", by=TESTER)
    await opened.accounts.delete("team", "robot", by=TESTER)
    assert await pushed(opened, "team") == ["team/second"], "a robot has no namespace"
