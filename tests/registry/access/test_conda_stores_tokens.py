"""Access tokens in conda-store's form: a JWT that is an access token like any other, whatever is written in it."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.registry.people import People, basic, bearer
from tests.support.registry.pushes import DATA, Pusher
from tests.support.registry.serving import Site

TOKENS = "/api/v1/token/"
PASSWORD = "correct horse battery"


@pytest.fixture
async def alice(site: Site, people: People) -> dict[str, str]:
    await site.workshop.put_blob(DATA, "team/app")
    await site.workshop.put_blob(DATA, "other/app")
    await people.add("alice", "team/*=editor", "other/*=viewer", password=PASSWORD)
    return dict(basic("alice", PASSWORD))


async def make(ask: Pusher, headers: dict[str, str], **fields: Any) -> str:
    answer = await ask.request("POST", TOKENS, headers=headers, json=fields)
    assert answer.status == 200, answer.body
    document = json.loads(answer.body)
    assert document["status"] == "ok"
    text: str = document["data"]["token"]
    return text


async def list_tokens(ask: Pusher, headers: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((await ask.request("GET", TOKENS, headers=headers)).body)["data"]
    return found


def read(text: str) -> dict[str, Any]:
    """What conda-store's clients read from a token, who verify nothing."""
    found: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return found


async def statuses(ask: Pusher, token: str) -> list[int]:
    """Of the REST API, of reading here and there, and of a push."""
    asked = [("GET", TOKENS), ("GET", "/v2/team/app/tags/list"), ("GET", "/v2/other/app/tags/list")]
    asked += [("POST", "/v2/team/app/blobs/uploads/")]
    return [(await ask.request(method, path, headers=bearer(token))).status for method, path in asked]


async def test_it_works_where_any_access_token_does(ask: Pusher, alice: dict[str, str]) -> None:
    token = await make(ask, alice)
    assert read(token)["primary_namespace"] == "alice"
    assert read(token)["role_bindings"] == {}
    assert await statuses(ask, token) == [200, 200, 200, 202]
    permissions = json.loads((await ask.request("GET", "/api/v1/permission/", headers=bearer(token))).body)["data"]
    assert permissions["authenticated"] is True
    [listed] = [each for each in await list_tokens(ask, alice) if each["name"] == "conda-store"]
    assert listed["id"] == read(token)["jti"]


async def test_it_is_limited_to_its_role_bindings(ask: Pusher, alice: dict[str, str]) -> None:
    token = await make(ask, alice, primary_namespace="team", role_bindings={"team/*": ["viewer"]})
    assert read(token)["primary_namespace"] == "team"
    assert read(token)["role_bindings"] == {"team/*": ["viewer"]}
    assert await statuses(ask, token) == [200, 200, 403, 403]


async def test_its_primary_namespace_is_that_of_what_is_made_with_it(ask: Pusher, alice: dict[str, str]) -> None:
    async def primary(headers: dict[str, str]) -> str:
        answer = await ask.request("GET", "/api/v1/permission/", headers=headers)
        return str(json.loads(answer.body)["data"]["primary_namespace"])

    token = dict(bearer(await make(ask, alice, primary_namespace="team", role_bindings={"team/*": ["viewer"]})))
    assert (await primary(token), await primary(alice)) == ("team", "alice")
    # also of tokens that are made with it, in either form, and say nothing else
    assert await primary(dict(bearer(await make(ask, token)))) == "team"
    assert await primary(dict(bearer(await make(ask, token, primary_namespace="lab")))) == "lab"
    ours = await ask.request("POST", TOKENS, headers=token, json={"name": "ours"})
    assert await primary(dict(bearer(json.loads(ours.body)["data"]["token"]))) == "team"
    own = await ask.request("POST", TOKENS, headers=alice, json={"name": "own"})
    assert await primary(dict(bearer(json.loads(own.body)["data"]["token"]))) == "alice"


async def test_it_grants_nothing_that_its_maker_lacks(ask: Pusher, alice: dict[str, str]) -> None:
    for bindings in ({"other/*": ["editor"]}, {"*/*": ["admin"]}, {"secret/*": ["viewer"]}):
        answer = await ask.request("POST", TOKENS, headers=alice, json={"role_bindings": bindings})
        assert answer.status == 400, bindings
        assert json.loads(answer.body)["status"] == "error"


@pytest.mark.parametrize("field", ["expiration", "exp"])
async def test_it_ends_when_it_says(ask: Pusher, alice: dict[str, str], people: People, field: str) -> None:
    when = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=1)
    token = await make(ask, alice, **{field: when.isoformat()})
    assert read(token)["exp"] == when.timestamp()
    [listed] = [each for each in await list_tokens(ask, alice) if each["id"] == read(token)["jti"]]
    assert datetime.datetime.fromisoformat(listed["expires"]) == when
    past = await ask.request("POST", TOKENS, headers=alice, json={field: "2020-01-01T00:00:00Z"})
    assert past.status == 400


async def test_what_the_command_line_writes_as_a_time_is_read(ask: Pusher, alice: dict[str, str]) -> None:
    """It sends null, what GET permission/ says, or a time in the form of its own programs."""
    now = datetime.datetime.now(datetime.UTC)
    assert read(await make(ask, alice, exp=None, expiration=None))["exp"] > now.timestamp()
    when = now.replace(microsecond=200_000) + datetime.timedelta(hours=1)
    for text in (f"{when:%Y-%m-%d %H:%M:%S}.2+00:00", f"{when:%Y-%m-%d %H:%M:%S}", f"{when:%Y-%m-%dT%H:%M:%SZ}"):
        token = await make(ask, alice, exp=text)
        assert int(read(token)["exp"]) == int(when.timestamp())
    permission = json.loads((await ask.request("GET", "/api/v1/permission/", headers=bearer(token))).body)["data"]
    again = await make(ask, dict(bearer(token)), exp=permission["expiration"], role_bindings={"team/*": ["viewer"]})
    assert int(read(again)["exp"]) == int(when.timestamp())


async def test_a_token_makes_none_that_lasts_longer_or_does_more(ask: Pusher, alice: dict[str, str]) -> None:
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    narrow = bearer(await make(ask, alice, exp=when.isoformat(), role_bindings={"team/*": ["viewer"]}))
    later = (when + datetime.timedelta(hours=1)).isoformat()
    for fields in ({"exp": later}, {"expiration": later}, {"role_bindings": {"team/*": ["editor"]}}):
        answer = await ask.request("POST", TOKENS, headers=narrow, json=fields)
        assert answer.status == 400, (fields, answer.body)


async def test_it_is_revoked_like_any_other(ask: Pusher, alice: dict[str, str]) -> None:
    token = await make(ask, alice)
    assert await statuses(ask, token) == [200, 200, 200, 202]
    revoked = await ask.request("DELETE", f"{TOKENS}{read(token)['jti']}/", headers=alice)
    assert revoked.status == 200
    assert await statuses(ask, token) == [401, 401, 401, 401]


async def test_what_is_written_in_it_counts_for_nothing(ask: Pusher, alice: dict[str, str]) -> None:
    """Only the text that was given out is one: its row has a hash of it."""
    token = await make(ask, alice, role_bindings={"team/*": ["viewer"]})
    claims, header = read(token), jwt.get_unverified_header(token)
    kept = {"kid": header["kid"], "typ": header["typ"]}
    wider = {**claims, "role_bindings": {"*/*": ["admin"]}}
    body, signature = token.rpartition(".")[::2]
    forged = [
        jwt.encode(wider, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers=kept),
        jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers=kept),
        jwt.encode(wider, "", algorithm="none", headers=kept),
        jwt.encode(wider, "a key of at least thirty-two bytes, as HS256 asks", algorithm="HS256", headers=kept),
        f"{body}.",
        f"{body}.{signature[:-4]}AAAA",
    ]
    for text in forged:
        assert await statuses(ask, text) == [401, 401, 401, 401]
    assert await statuses(ask, token) == [200, 200, 403, 403]


@pytest.mark.parametrize(
    "fields",
    [
        {"role_bindings": {"team/*": []}},
        {"role_bindings": ["team/*"]},
        {"role_bindings": {"team/*": 5}},
        {"role_bindings": {"team/*": ["nobody"]}},
        {"expiration": "soon"},
        {"primary_namespace": 5},
        {"primary_namespace": "Team/x"},
        {"primary_namespace": "team", "name": "mixed"},
    ],
    ids=str,
)
async def test_fields_that_are_wrong_are_named(ask: Pusher, alice: dict[str, str], fields: dict[str, Any]) -> None:
    answer = await ask.request("POST", TOKENS, headers=alice, json=fields)
    assert answer.status == 400
    message = json.loads(answer.body)["message"]
    assert any(name in message for name in (*fields, "nobody", "team/*")), message
    assert await list_tokens(ask, alice) == [
        each for each in await list_tokens(ask, alice) if each["name"] == "the test"
    ], "nothing was made"


@pytest.mark.parametrize("body", [{}, {"name": "ci"}], ids=["conda-store's form", "ours"])
async def test_the_last_use_is_recorded(ask: Pusher, alice: dict[str, str], body: dict[str, Any]) -> None:
    token = await make(ask, alice, **body)

    async def used() -> dict[str, Any]:
        [listed] = [each for each in await list_tokens(ask, alice) if each["name"] == body.get("name", "conda-store")]
        return listed

    assert ((await used())["used"], (await used())["used_from"]) == (None, None)
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    await statuses(ask, token)
    async with asyncio.timeout(60):
        while (found := await used())["used"] is None:
            await asyncio.sleep(0.05)
    assert found["used_from"] == "127.0.0.1"
    assert before <= datetime.datetime.fromisoformat(found["used"])
