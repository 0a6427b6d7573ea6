"""What requests leave in the audit log, and who may read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auth.accounts.bindings import Holder
from auth.audit.log import append
from auth.settings import AccessSettings
from registry.http.settings import HttpSettings
from storage.digest import Digest
from tests.support.registry.access import CLOSED
from tests.support.registry.audited import read_events, read_stored
from tests.support.registry.people import BY, PASSWORD, People, basic, bearer
from tests.support.registry.pushes import DATA, DIGEST, MANIFEST, Pusher, image_manifest
from tests.support.registry.serving import ROOT, Site, serving
from tests.support.rooms import PACKAGES
from tests.support.rooms import ROOT as REPOSITORY


async def events(ask: Pusher, headers: Mapping[str, str], path: str = "/api/v1/audit/") -> list[dict[str, Any]]:
    found = await ask.request("GET", path, headers=headers)
    assert found.status == 200, found.body
    listed: list[dict[str, Any]] = json.loads(found.body)["data"]
    return listed


async def test_what_changes_and_what_is_refused(ask: Pusher, people: People, site: Site) -> None:
    alice = await people.add("alice", "team/*=admin", password=PASSWORD)
    bob = await people.add("bob")
    config = b"{}"
    for data in (config, DATA):
        assert (
            await ask.request(
                "POST", f"/v2/team/app/blobs/uploads/?digest={Digest.of(data)}", data=data, headers=alice.headers
            )
        ).status == 201
    headers = {**alice.headers, "Content-Type": MANIFEST}
    manifest = image_manifest(config, [DATA])
    assert (await ask.request("PUT", "/v2/team/app/manifests/v1", data=manifest, headers=headers)).status == 201
    assert (await ask.request("GET", "/v2/team/app/manifests/v1", headers=alice.headers)).status == 200
    assert (await ask.request("GET", "/v2/team/app/manifests/v1", headers=bob.headers)).status == 403
    assert (await ask.request("DELETE", "/v2/team/app/manifests/v1", headers=bob.headers)).status == 403
    assert (await ask.request("DELETE", "/v2/team/app/manifests/v1", headers=alice.headers)).status == 202
    assert (await ask.request("GET", "/v2/", headers=basic("alice", "wrong"))).status == 401
    assert (await ask.request("GET", "/v2/team/app/manifests/v1")).status == 401
    assert (await ask.request("GET", "/token?client_id=docker", headers=basic("alice"))).status == 200
    found = [each for each in await read_events(site) if each[1] not in ("user.add", "token.create", "role.bind")]
    assert found == [
        ("alice", "blob.push", "team/app", "allowed"),
        ("alice", "blob.push", "team/app", "allowed"),
        ("alice", "manifest.push", "team/app", "allowed"),
        ("bob", "manifest.pull", "team/app", "denied"),
        ("bob", "manifest.delete", "team/app", "denied"),
        ("alice", "manifest.delete", "team/app", "allowed"),
        ("anonymous", "sign-in", "alice", "denied"),
        ("alice", "sign-in", "alice", "allowed"),
    ]


async def test_what_ends_with_an_account_is_told_too(people: People, site: Site) -> None:
    """The log says who ended a robot's token, also when it was its owner who was deleted."""
    alice = await people.add("alice", "team/*=editor")
    robot = await people.accounts.add_robot("ci", owner="alice", by=BY)
    await people.bindings.bind(Holder("account", "ci"), "team/*=viewer", by=BY)
    tokens = site.access.tokens.access
    old = await tokens.make(alice.principal, "old", None, by=BY)
    await tokens.revoke(old.token.id, by=BY)
    await tokens.make(await people.load(robot.id), "job", None, by=BY)
    before = len(await read_events(site))
    await people.accounts.delete("alice", by=BY)
    told = [(action, entity) for _, action, entity, _ in (await read_events(site))[before:]]
    assert told == [
        ("role.unbind", "team/*"),
        ("role.unbind", "team/*"),
        ("token.revoke", "alice"),
        ("token.revoke", "ci"),
        ("robot.delete", "ci"),
        ("user.delete", "alice"),
    ]


async def test_who_shows_nothing_cannot_fill_the_log(ask: Pusher, site: Site) -> None:
    """Whatever they ask for, with a token for anybody, or as a page of another site."""
    token = json.loads((await ask.request("GET", "/token")).body)["token"]
    for number in range(100):
        name = f"{'x' * 190}/{number}"
        for headers in ({"Origin": "http://e"}, bearer(token)):
            await ask.request("DELETE", f"/v2/{name}/manifests/x", headers=headers)
        await ask.request("GET", f"/v2/{name}/tags/list", headers=bearer(token))
        await ask.request("DELETE", f"/api/v1/token/{number}/", headers={"Sec-Fetch-Site": "cross-site"})
        await ask.request("GET", "/v2/", headers=bearer(f"eyJ{number}"))
        await ask.request("GET", "/v2/", headers=basic("nobody", f"wrong{number}"))
    page = await read_stored(site)
    assert 0 < len(page.events) < 40
    assert sum(each.detail.get("more", 0) for each in page.events) > 100
    assert all(len(each.entity) <= 512 for each in page.events)


async def test_access_tokens_are_told_of_with_their_change(ask: Pusher, people: People, site: Site) -> None:
    alice = await people.add("alice")
    headers = {**alice.headers, "Content-Type": "application/json"}
    made = json.loads((await ask.request("POST", "/api/v1/token/", data=b'{"name":"ci"}', headers=headers)).body)[
        "data"
    ]
    await ask.request("DELETE", f"/api/v1/token/{made['id']}/", headers=headers)
    root = await people.add("root", "*=admin")
    found = [each for each in await events(ask, root.headers) if each["detail"].get("id") == made["id"]]
    assert [(each["action"], each["principal"], each["token"]) for each in found] == [
        ("token.revoke", "alice", alice.token_id),
        ("token.create", "alice", alice.token_id),
    ]
    assert made["token"] not in json.dumps(await events(ask, root.headers))


async def test_builds_and_pulls(tmp_path: Path) -> None:
    settings = CLOSED.model_copy(update={"audit_pulls": True})
    async with serving(tmp_path, HttpSettings(answer_within=0.01), sign_in=settings) as site:
        people, ask = People(site), Pusher(site)
        alice = await people.add("alice")
        for _ in range(3):
            assert (
                await ask.request("HEAD", f"/v2/{ROOT}/numpy/manifests/latest", headers=alice.headers)
            ).status == 200
        await site.workshop.finish(f"{ROOT}/numpy")
        assert (await ask.request("GET", f"/v2/{ROOT}/numpy/manifests/latest", headers=alice.headers)).status == 200
        found = [each[1:] for each in await read_events(site) if each[2].startswith(ROOT)]
        assert found == [
            ("image.build", f"{ROOT}/numpy", "allowed"),
            ("manifest.pull", f"{ROOT}/numpy", "allowed"),
        ]


async def test_pages_filters_and_whose_events_they_are(ask: Pusher, people: People, site: Site) -> None:
    alice, bob = await people.add("alice", "team/*=admin"), await people.add("bob", "*=admin")
    for name in ("team/a", "team/b", "other/c"):
        path = f"/v2/{name}/blobs/uploads/?digest={DIGEST}"
        assert (await ask.request("POST", path, data=DATA, headers=bob.headers)).status == 201
    await read_events(site)
    path, entities = "/api/v1/audit/?action=blob.push&limit=1", []
    while path:
        page = json.loads((await ask.request("GET", path, headers=bob.headers)).body)
        entities += [each["entity"] for each in page["data"]]
        path = page.get("next", "")
    assert entities == ["other/c", "team/b", "team/a"]
    mine = await events(ask, alice.headers, "/api/v1/audit/team/")
    assert {each["entity"].partition("/")[0] for each in mine} == {"team"}
    assert [each["entity"] for each in await events(ask, alice.headers, "/api/v1/audit/team/?entity=team/a")] == [
        "team/a"
    ]
    for bad in (
        "entity=other/c",
        "outcome=x",
        "limit=0",
        "limit=1_0",
        "before=-1",
        "since=never",
        "since=2027-01-31T12:00:00+01:00",
        "since=2027-01-31&until=2027-01-31",
        "action=blob.push&action=blob.delete",
        "before=9999999999999999999",
        "x=y",
        "principal=%00",
    ):
        assert (await ask.request("GET", f"/api/v1/audit/team/?{bad}", headers=alice.headers)).status == 400, bad


async def test_a_namespace_has_what_is_about_itself_and_nothing_of_an_account_of_its_name(
    ask: Pusher, people: People, site: Site
) -> None:
    """The repository `team` is in the namespace `team`, and alone has its name."""
    root, admin = await people.add("root", "*=admin"), await people.add("admin", "team/*=admin")
    await people.add("team", "team/*=editor", password=PASSWORD, take_namespace=True)
    await people.add("teammate")
    for name in ("team", "team/app", "teammate/app"):
        path = f"/v2/{name}/blobs/uploads/?digest={DIGEST}"
        assert (await ask.request("POST", path, data=DATA, headers=root.headers)).status == 201
    assert (await ask.request("GET", "/token?client_id=docker", headers=basic("team"))).status == 200
    async with site.workshop.store.database.writing() as connection:
        for action in ("policy.set", "namespace.metadata", "group.join"):
            await append(connection, BY.did(action, "team"))
    everything = {(each[1], each[2]) for each in await read_events(site)}
    assert {("user.add", "team"), ("sign-in", "team"), ("token.create", "team"), ("group.join", "team")} <= everything
    found = await events(ask, admin.headers, "/api/v1/audit/team/")
    assert {(each["action"], each["entity"]) for each in found} == {
        ("blob.push", "team"),
        ("blob.push", "team/app"),
        ("policy.set", "team"),
        ("namespace.metadata", "team"),
        ("role.bind", "team/*"),
    }
    of_itself = await events(ask, admin.headers, "/api/v1/audit/team/?entity=team")
    assert {each["action"] for each in of_itself} == {"blob.push", "policy.set", "namespace.metadata"}
    for entity in ("teammate/app", "tea*", "*", "team*", "root"):
        refused = await ask.request("GET", f"/api/v1/audit/team/?entity={entity}", headers=admin.headers)
        assert refused.status == 400, entity


async def test_nothing_changes_what_is_in_the_log(ask: Pusher, people: People) -> None:
    """But its retention, which `prune` is. No route has another method."""
    root = await people.add("root", "*=admin")
    for path in ("/api/v1/audit/", "/api/v1/audit/team/"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await ask.request(method, path, headers=root.headers, data=b"{}")).status == 405
    changing = {
        str(path.relative_to(REPOSITORY))
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        if "account_tables.audit" in path.read_text()
    }
    assert changing == {"auth/audit/log.py", "auth/audit/reading.py"}
    assert "update" not in (REPOSITORY / "auth/audit/log.py").read_text()


def test_the_default_keeps_no_pulls() -> None:
    assert not AccessSettings().audit_pulls
