"""/token: what docker and its relatives ask for, and what they get (distribution, docs/content/spec/auth)."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from registry.http.settings import HttpSettings
from tests.support.registry.access import CLOSED
from tests.support.registry.people import BY, PASSWORD, People, basic
from tests.support.registry.pushes import Answer, Pusher
from tests.support.registry.serving import ROOT, Site, serving

FORM = "application/x-www-form-urlencoded"
APP = "repository:team/app"


async def get(ask: Pusher, query: str, **options: Any) -> Answer:
    return await ask.request("GET", f"/token{query}", **options)


async def post(ask: Pusher, text: str, content_type: str = FORM, **headers: str) -> Answer:
    return await ask.request("POST", "/token", data=text.encode(), headers={"Content-Type": content_type, **headers})


def claims_of(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    found: dict[str, Any] = jwt.decode(json.loads(answer.body)["token"], options={"verify_signature": False})
    return found


def access_of(answer: Answer) -> dict[str, list[str]]:
    return {f"{each['type']}:{each['name']}": each["actions"] for each in claims_of(answer)["access"]}


async def test_what_a_client_reads(ask: Pusher, people: People) -> None:
    alice = await people.add("alice", "team/*=editor")
    given = await get(ask, f"?service=condery&scope={APP}:pull,push&client_id=docker", headers=alice.headers)
    document = json.loads(given.body)
    assert document["token"] == document["access_token"]
    assert document["token_type"] == "Bearer"
    assert document["expires_in"] >= 60
    assert document["scope"] == f"{APP}:pull,push"
    assert datetime.fromisoformat(document["issued_at"]).tzinfo is not None
    assert "refresh_token" not in document
    assert given.headers["Cache-Control"] == "no-store"
    assert claims_of(given)["aud"] == "condery"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (f"{APP}:pull", {APP: ["pull"]}),
        (f"{APP}:pull,push,delete", {APP: ["pull", "push"]}),
        (f"{APP}:*", {APP: ["pull", "push"]}),
        (f"{APP}:delete", {}),
        (f"{APP}:pull {APP}:push", {APP: ["pull", "push"]}),
        (f"{APP}:pull repository:secret/app:pull", {APP: ["pull"]}),
        ("repository:team:pull", {"repository:team": ["pull"]}),
        ("repository:teammate/app:pull", {}),
        ("repository:secret/app:pull,push", {}),
        (f"repository:{ROOT}/numpy:pull", {f"repository:{ROOT}/numpy": ["pull"]}),
        (f"repository:{ROOT}/numpy:push", {f"repository:{ROOT}/numpy": ["push"]}),
        ("registry:catalog:*", {"registry:catalog": ["*"]}),
        ("registry:catalog:pull", {}),
        ("repository(plugin):team/app:pull", {APP: ["pull"]}),
        ("repository:*:pull", {}),
        ("repository:team/*:pull", {}),
        ("repository:TEAM/app:pull", {}),
        ("repository:team/app:admin", {}),
        ("repository:team/app", {}),
        ("nonsense", {}),
        ("repository:../../etc:pull", {}),
        ("repository:team/app\n:pull", {}),
        ("", {}),
    ],
)
async def test_what_is_granted_is_what_is_asked_and_allowed(
    ask: Pusher, people: People, asked: str, granted: dict[str, list[str]]
) -> None:
    """Scope widening, in all forms: no error, and never more than the owner may."""
    alice = await people.add("alice", "team/*=editor", password=PASSWORD)
    found = await get(ask, f"?{urlencode({'scope': asked})}", headers=alice.headers)
    assert access_of(found) == granted
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD, "scope": asked, "service": "condery"}
    assert access_of(await post(ask, urlencode(form))) == granted


async def test_several_scopes_in_one_request(ask: Pusher, people: People) -> None:
    alice = await people.add("alice", "team/*=editor", "other/*=viewer")
    query = f"?scope={APP}:pull,push&scope=repository:other/app:pull,push&scope=repository:third/app:pull"
    assert access_of(await get(ask, query, headers=alice.headers)) == {
        APP: ["pull", "push"],
        "repository:other/app": ["pull"],
    }


async def test_cve_2026_24791_a_limited_token_gets_no_more_than_it_has(ask: Pusher, people: People) -> None:
    """Gitea's CVE-2026-24791: no route forgets a token's limits."""
    alice = await people.add("alice", "team/*=editor")
    limited = await people.access_token(alice, "team/app=viewer")
    query = f"?scope={APP}:pull,push&scope=repository:team/other:pull&scope=repository:alice/own:pull"
    assert access_of(await get(ask, query, headers=basic("alice", limited))) == {APP: ["pull"]}
    asked = json.dumps({"name": "wider", "bindings": ["team/*=editor"]}).encode()
    headers = {"Authorization": f"Bearer {limited}", "Content-Type": "application/json"}
    assert (await ask.request("POST", "/api/v1/token/", data=asked, headers=headers)).status == 403
    made = await ask.request("POST", "/api/v1/token/", data=b'{"name":"all"}', headers=headers)
    child = json.loads(made.body)["data"]["token"]
    assert access_of(await get(ask, query, headers=basic("alice", child))) == {APP: ["pull"]}
    listed = json.loads((await ask.request("GET", "/api/v1/token/", headers=headers)).body)["data"]
    assert {each["name"] for each in listed} == {"limited", "all"}
    # a token of the same account that it did not make
    revoked = await ask.request("DELETE", f"/api/v1/token/{alice.token_id}/", headers=headers)
    assert revoked.status == 404


async def test_anybody_gets_a_token_for_nothing(ask: Pusher) -> None:
    assert access_of(await get(ask, f"?scope={APP}:pull")) == {}


async def test_refresh_tokens(ask: Pusher, people: People) -> None:
    alice = await people.add("alice", "team/*=editor", password=PASSWORD)
    by_get = await get(ask, "?offline_token=true&service=condery&client_id=docker", headers=basic("alice"))
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD, "access_type": "offline"}
    by_post = await post(ask, urlencode(form))
    by_token = await get(ask, "?offline_token=true&service=condery", headers=alice.headers)
    for given in (by_get, by_post, by_token):
        text = json.loads(given.body)["refresh_token"]
        asked = {"grant_type": "refresh_token", "refresh_token": text, "service": "condery", "scope": f"{APP}:pull"}
        again = await post(ask, urlencode(asked))
        assert access_of(again) == {APP: ["pull"]}
        assert json.loads(again.body)["refresh_token"] == text
        for wrong in ({**asked, "service": "other"}, {**asked, "refresh_token": text[:-1] + "!"}):
            refused = await post(ask, urlencode(wrong))
            assert refused.status in (400, 401)
            assert "access_token" not in json.loads(refused.body)
        # it is no password and no bearer token
        for headers in (basic("alice", text), {"Authorization": f"Bearer {text}"}):
            assert (await ask.request("GET", "/v2/", headers=headers)).status == 401
    assert "refresh_token" not in json.loads((await get(ask, "?offline_token=true")).body), "nobody signs in again"


@pytest.mark.parametrize(
    "page",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_a_page_of_another_site_makes_no_refresh_token(ask: Pusher, people: People, page: dict[str, str]) -> None:
    """A browser sends a password that it remembers with what such a page asks for."""
    await people.add("alice", password=PASSWORD)
    sent = {**basic("alice"), **page}
    assert (await get(ask, "?offline_token=true", headers=sent)).status == 403
    form = urlencode({"grant_type": "password", "username": "alice", "password": PASSWORD, "access_type": "offline"})
    for text, headers in (("access_type=offline", sent), (form, page)):
        assert (await post(ask, text, **headers)).status == 403
    assert (await get(ask, "", headers=sent)).status == 200, "a short token is not kept anywhere"
    own = {**basic("alice"), "Sec-Fetch-Site": "same-origin"}
    assert json.loads((await get(ask, "?offline_token=true", headers=own)).body)["refresh_token"]


@pytest.mark.parametrize(
    ("text", "content_type", "status", "code"),
    [
        ("", FORM, 400, "unsupported_grant_type"),
        ("grant_type=client_credentials", FORM, 400, "unsupported_grant_type"),
        ("grant_type=password", FORM, 401, "invalid_grant"),
        ("grant_type=password&username=alice&password=wrong", FORM, 401, "invalid_grant"),
        ("grant_type=password&username=nobody&password=wrong", FORM, 401, "invalid_grant"),
        ("grant_type=refresh_token", FORM, 401, "invalid_grant"),
        ("grant_type=refresh_token&refresh_token=x", FORM, 401, "invalid_grant"),
        ("grant_type=password&grant_type=password", FORM, 400, "invalid_request"),
        ('{"grant_type":"password"}', "application/json", 400, "invalid_request"),
        ("a=b&" * 200, FORM, 400, "invalid_request"),
        ("x" * 70_000, FORM, 413, "invalid_request"),
        ("grant_type=%FF%00", FORM, 400, "unsupported_grant_type"),
        ("grant_type=password&username=%00&password=%00", FORM, 401, "invalid_grant"),
        ("grant_type=password&username=a&password=" + "x" * 5000, FORM, 401, "invalid_grant"),
        ("grant_type=password&username=a&password=b&service=other", FORM, 401, "invalid_grant"),
    ],
)
async def test_refusals_are_json_in_oauths_form(
    ask: Pusher, people: People, text: str, content_type: str, status: int, code: str
) -> None:
    await people.add("alice", password=PASSWORD)
    found = await post(ask, text, content_type)
    assert found.status == status, found.body
    assert found.headers["Content-Type"].startswith("application/json")
    assert json.loads(found.body)["error"] == code


async def test_too_many_scopes_are_refused(ask: Pusher) -> None:
    query = "&".join(f"scope=repository:team/app{number}:pull" for number in range(30))
    found = await get(ask, f"?{query}")
    assert (found.status, json.loads(found.body)["error"]) == (400, "invalid_scope")


async def test_the_realm_is_the_address_by_which_the_client_came(site: Site, people: People) -> None:
    await people.add("alice")
    async with site.request("GET", "/v2/", headers={"Host": "registry.example.org:8443"}) as answer:
        assert 'realm="http://registry.example.org:8443/token"' in answer.headers["WWW-Authenticate"]


async def test_what_a_client_calls_itself_has_bounds(ask: Pusher, people: People) -> None:
    alice = await people.add("alice")
    assert (await get(ask, f"?client_id={'x' * 255}", headers=alice.headers)).status == 200
    for client in ("x" * 256, "x%0Ay", "%1b"):
        assert (await get(ask, f"?client_id={client}", headers=alice.headers)).status == 400
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD, "client_id": "x" * 60_000}
    await people.accounts.set_password("alice", PASSWORD, by=BY)
    assert (await ask.request("POST", "/token", data=form)).status == 400


@pytest.mark.parametrize("path", ["/v2/", "/v2/team/app/manifests/v1", "/token?service=other", "/api/v1/token/"])
async def test_no_cache_keeps_an_answer_that_names_the_clients_host(ask: Pusher, people: People, path: str) -> None:
    """Without `public_url` the realm is at the host that the client itself has named; nobody else is sent there."""
    await people.add("alice")
    found = await ask.request("GET", path, headers={"Host": "evil.example"})
    assert found.status in (400, 401)
    assert found.headers["Cache-Control"] == "no-store"
    assert (found.status == 401) == ('realm="http://evil.example/token"' in found.headers.get("WWW-Authenticate", ""))


async def test_with_a_public_url_no_client_names_the_host(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpSettings(public_url="https://registry.example.org"), sign_in=CLOSED) as site:
        await People(site).add("alice")
        found = await Pusher(site).request("GET", "/v2/", headers={"Host": "evil.example"})
        assert found.status == 401
        assert 'realm="https://registry.example.org/token"' in found.headers["WWW-Authenticate"]
