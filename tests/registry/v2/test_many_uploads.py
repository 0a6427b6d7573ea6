"""Uploads that are begun and not finished: how many one caller may have, and what frees their room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from auth.settings import AccessSettings
from registry.http.settings import HttpSettings
from storage.database import tables
from storage.garbage.collection import Garbage
from storage.garbage.rules import GarbagePolicy
from tests.support.registry.people import People, Person
from tests.support.registry.pushes import DATA, DIGEST, Answer, Pusher
from tests.support.registry.serving import ROOT, Site, serving

MOST = 5
PATH = "/v2/team/app/blobs/uploads/"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    http = HttpSettings(trusted_proxies=("127.0.0.1",))
    anybody = AccessSettings(anonymous_bindings=("team/*=editor",))
    async with serving(tmp_path, http, sign_in=anybody, uploads=MOST) as running:
        yield running


async def begin(site: Site, person: Person | None, client: str = "192.0.2.1", query: str = "") -> Answer:
    headers = {"X-Forwarded-For": client, **(person.headers if person else {})}
    return await Pusher(site).request("POST", f"{PATH}{query}", headers=headers)


async def count(site: Site) -> int:
    async with site.workshop.store.database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(tables.upload))).scalar_one())


async def test_one_caller_takes_no_others_room(site: Site) -> None:
    people = People(site)
    alice, bob = [await people.add(name, "team/*=editor") for name in ("alice", "bob")]
    for who, client in ((alice, "192.0.2.1"), (None, "192.0.2.1"), (None, "2001:db8::1")):
        assert {(await begin(site, who, client)).status for _ in range(MOST)} == {202}
    # from wherever an account sends it; a network is one client
    for who, client in ((alice, "192.0.2.9"), (None, "192.0.2.1"), (None, "2001:db8::ffff")):
        refused = await begin(site, who, client)
        assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "TOOMANYREQUESTS", "60")
        assert f"you have {MOST} uploads" in refused.message
        assert "give some up with DELETE" in refused.message
        # what a mount would have been
        assert (await begin(site, who, client, f"?mount={DIGEST}&from=team/other")).status == 429
    for who, client in ((bob, "192.0.2.1"), (None, "192.0.2.2"), (None, "2001:db8:0:1::1")):
        assert (await begin(site, who, client)).status == 202
    assert await count(site) == 3 * MOST + 3


async def test_a_whole_blob_needs_no_such_room(site: Site) -> None:
    alice = await People(site).add("alice", "team/*=editor")
    for _ in range(MOST):
        await begin(site, alice)
    whole = await Pusher(site).request("POST", f"{PATH}?digest={DIGEST}", headers=alice.headers, data=DATA)
    assert whole.status == 201


async def test_what_is_finished_given_up_or_has_ended_frees_its_room(site: Site) -> None:
    alice = await People(site).add("alice", "team/*=editor")
    opened = [(await begin(site, alice)).headers["Location"] for _ in range(MOST)]
    ask = Pusher(site)
    assert (await begin(site, alice)).status == 429
    finished = await ask.request("PUT", f"{opened[0]}?digest={DIGEST}", headers=alice.headers, data=DATA)
    assert finished.status == 201
    assert (await ask.request("DELETE", opened[1], headers=alice.headers)).status == 204
    assert [(await begin(site, alice)).status for _ in range(3)] == [202, 202, 429]
    store = site.workshop.store
    async with store.database.writing() as connection:
        await connection.execute(tables.upload.update().values(touched=1.0))
    await Garbage(store.blobs, store.changes, GarbagePolicy(ROOT)).collect()
    assert await count(site) == 0
    assert (await begin(site, alice)).status == 202
