"""Credentials and the answers that they get: one table of requests, and what changes them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from multidict import CIMultiDict

from auth.accounts.bindings import Holder
from auth.audit.reading import AuditFilter
from auth.settings import AccessSettings
from tests.support.registry.access import CLOSED
from tests.support.registry.people import BY, PASSWORD, People, Person, basic, bearer
from tests.support.registry.pushes import DATA, DIGEST, Answer, Pusher
from tests.support.registry.serving import ROOT, Site, serving

PULL, PUSH, DELETE = ("pull",), ("pull", "push"), ("delete",)


@dataclass(frozen=True)
class Case:
    method: str
    path: str
    who: str
    """A key of `credentials`."""
    status: int
    said: str = ""
    """What the challenge or the message has in it."""


CASES = [
    # nobody, and somebody
    Case("GET", "/v2/", "nobody", 401, 'Bearer realm="{url}/token",service="condery"'),
    Case("GET", "/v2/", "viewer", 200),
    Case("GET", "/v2/", "token of viewer", 200),
    Case("GET", "/v2/", "token of nobody", 200),
    Case("GET", "/v2/", "wrong password", 401, 'error="invalid_token"'),
    Case("GET", "/v2/", "unknown access token", 401, 'error="invalid_token"'),
    Case("GET", "/v2/", "nonsense", 401, 'error="invalid_token"'),
    Case("GET", "/healthz", "nonsense", 200),
    Case("GET", "/", "nonsense", 401, 'error="invalid_token"'),
    # reading
    Case("GET", "/v2/team/app/tags/list", "nobody", 401, 'scope="repository:team/app:pull"'),
    Case("GET", "/v2/team/app/tags/list", "viewer", 404),
    Case("GET", "/v2/team/app/tags/list", "editor", 404),
    Case(
        "GET",
        "/v2/team/app/tags/list",
        "other",
        403,
        "other may not pull from team/app (environment::read), and you are signed in as other; ask ",
    ),
    Case("GET", "/v2/team/app/tags/list", "password", 404),
    Case("GET", "/v2/team/app/tags/list", "access token as password", 404),
    Case("GET", "/v2/team/app/tags/list", "token of viewer", 404),
    Case(
        "GET",
        "/v2/team/app/tags/list",
        "token of nobody",
        403,
        "not pull from team/app (environment::read); sign in with docker login",
    ),
    Case("GET", "/v2/team/app/tags/list", "token of other", 403, "pull from team/app (environment::read)"),
    Case("GET", "/v2/team/app/tags/list", "token for another repository", 401, 'error="insufficient_scope"'),
    Case("GET", "/v2/team/app/tags/list", "token without scopes", 401, 'scope="repository:team/app:pull"'),
    # writing
    Case("POST", "/v2/team/app/blobs/uploads/", "nobody", 401, 'scope="repository:team/app:pull,push"'),
    Case(
        "POST",
        "/v2/team/app/blobs/uploads/",
        "viewer",
        403,
        "viewer may not push to team/app (environment::create); ask an administrator for the role editor there",
    ),
    Case("POST", "/v2/team/app/blobs/uploads/", "editor", 202),
    Case(
        "POST",
        "/v2/team/app/blobs/uploads/",
        "token of viewer",
        403,
        "viewer may not push to team/app (environment::create); ask an administrator for the role editor there",
    ),
    Case("POST", "/v2/team/app/blobs/uploads/", "token of editor", 202),
    Case("POST", "/v2/team/app/blobs/uploads/", "token of editor to pull", 401, "insufficient_scope"),
    Case("POST", "/v2/app/blobs/uploads/", "other", 403, "put a namespace in front of the name: other/app"),
    Case(
        "POST",
        "/v2/team/app/blobs/uploads/",
        "limited",
        403,
        "editor may not push to team/app with this token (environment::create): the token's limits",
    ),
    Case(
        "DELETE",
        "/v2/team/app/manifests/v1",
        "editor",
        403,
        "editor may not delete from team/app (environment::delete); ask an administrator for the role admin",
    ),
    Case("DELETE", "/v2/team/app/manifests/v1", "admin", 404),
    Case("DELETE", "/v2/team/app/manifests/v1", "token of admin to push", 401, 'scope="repository:team/app:delete"'),
    Case("DELETE", "/v2/team/app/manifests/v1", "token of admin to delete", 404),
    # an equal prefix is no namespace
    Case("GET", "/v2/teammate/app/tags/list", "viewer", 403, "pull from teammate/app (environment::read)"),
    Case("GET", "/v2/team/tags/list", "viewer", 404),
    # on demand: reading is not enough to have something built
    Case("GET", f"/v2/{ROOT}/numpy/manifests/latest", "nobody", 401, f'scope="repository:{ROOT}/numpy:pull"'),
    Case("HEAD", f"/v2/{ROOT}/numpy/manifests/latest", "nobody", 401),
    Case(
        "GET",
        f"/v2/{ROOT}/numpy/manifests/latest",
        "guest",
        403,
        f"may not have images or files built in {ROOT}/* (environment::create); ask",
    ),
    Case("GET", f"/files/{ROOT}/numpy/latest/conda-lock.yml", "nobody", 401),
    Case(
        "GET",
        f"/files/{ROOT}/numpy/latest/conda-lock.yml",
        "guest",
        403,
        f"may not have images or files built in {ROOT}/* (environment::create); ask",
    ),
    # mirrors, lists, the REST API
    Case("GET", "/v2/mirror/docker.io/debian/manifests/12", "nobody", 401),
    Case("GET", "/v2/mirror/docker.io/debian/manifests/12", "viewer", 403, "mirror/docker.io/debian"),
    Case("GET", "/v2/_catalog", "token of viewer", 401, 'scope="registry:catalog:*"'),
    Case("GET", "/v2/_catalog", "viewer", 200),
    Case("GET", "/v2/_catalog", "token of nobody for the catalog", 200),
    Case("GET", "/api/v1/token/", "nobody", 401),
    Case("GET", "/api/v1/token/", "viewer", 200),
    Case("GET", "/api/v1/token/", "token of viewer", 403, "issued for repositories alone"),
    Case("POST", "/api/v1/token/", "token of viewer", 403, "issued for repositories alone"),
    Case("GET", "/api/v1/permission/", "nobody", 200),
    Case("GET", "/api/v1/audit/", "nobody", 401),
    Case(
        "GET",
        "/api/v1/audit/",
        "viewer",
        403,
        "may not read the audit log of */* (audit::read); ask an administrator for the role admin",
    ),
    Case(
        "GET",
        "/api/v1/audit/",
        "admin",
        403,
        "may not read the audit log of */* (audit::read); ask an administrator for the role admin",
    ),
    Case("GET", "/api/v1/audit/team/", "admin", 200),
    Case("GET", "/api/v1/audit/other/", "admin", 403, "audit log of other/*"),
    Case("GET", "/api/v1/audit/", "everything", 200),
    # no registry token makes another
    Case("GET", "/token?scope=repository:team/app:pull,push", "token of editor to pull", 401),
    Case("GET", "/token?service=other.example.org", "editor", 400),
]


async def make_credentials(people: People) -> Mapping[str, Mapping[str, str]]:
    viewer = await people.add("viewer", "team/*=viewer")
    editor = await people.add("editor", "team/*=editor", password=PASSWORD)
    admin = await people.add("admin", "team/*=admin")
    other = await people.add("other", "other/*=admin")
    guest = await people.add("guest", f"{ROOT}/*=viewer")
    everything = await people.add("root", "*=admin")

    async def token(person: Person | None, *actions: str, name: str = "repository:team/app") -> Mapping[str, str]:
        return bearer((await people.registry_token(person, {name: actions})).text)

    return {
        "nobody": {},
        "viewer": viewer.headers,
        "editor": editor.headers,
        "admin": admin.headers,
        "other": other.headers,
        "guest": guest.headers,
        "everything": everything.headers,
        "limited": bearer(await people.access_token(editor, "team/*=viewer")),
        "password": basic("editor"),
        "access token as password": basic("whoever", viewer.token),
        "wrong password": basic("editor", "wrong"),
        "unknown access token": bearer(f"{viewer.token[:-1]}{'0' if viewer.token[-1] != '0' else '1'}"),
        "nonsense": bearer("nonsense"),
        "token of nobody": await token(None, *PULL),
        "token of nobody for the catalog": await token(None, "*", name="registry:catalog"),
        "token of viewer": await token(viewer, *PUSH),
        "token of editor": await token(editor, *PUSH),
        "token of editor to pull": await token(editor, *PULL),
        "token of admin to push": await token(admin, *PUSH),
        "token of admin to delete": await token(admin, *DELETE),
        "token of other": await token(other, *PULL),
        "token for another repository": await token(viewer, *PULL, name="repository:team/application"),
        "token without scopes": await token(viewer),
    }


async def test_every_request_of_the_table(tmp_path: Path) -> None:
    settings = CLOSED.model_copy(update={"signed_in_bindings": ()})
    async with serving(tmp_path, sign_in=settings) as site:
        credentials = await make_credentials(People(site))
        ask = Pusher(site)
        for case in CASES:
            found = await ask.request(case.method, case.path, headers=credentials[case.who])
            assert found.status == case.status, (case, found.body)
            told = " ".join(found.headers.getall("WWW-Authenticate", ())) + found.body.decode()
            assert case.said.replace("{url}", site.url) in told, (case, told)
            assert (found.status == 401) == ("WWW-Authenticate" in found.headers), case
        assert not site.workshop.builds


async def test_only_tokens_are_offered_where_docker_asks_how_to_sign_in(ask: Pusher, people: People) -> None:
    """It would meet each challenge, and has no password for the second one."""
    await people.add("alice")
    for headers in ({}, bearer("nonsense")):
        found = [
            (await ask.request("GET", path, headers=headers)).headers for path in ("/v2/", "/v2", "/v2/a/tags/list")
        ]
        schemes = [[each.partition(" ")[0] for each in each.getall("WWW-Authenticate")] for each in found]
        assert schemes == [["Bearer"], ["Bearer"], ["Bearer", "Basic"]]


async def test_nothing_tells_whether_a_repository_exists(site: Site, people: People, ask: Pusher) -> None:
    stranger = await people.add("stranger")
    await site.workshop.put_blob(DATA, "team/there")
    for headers in ({}, stranger.headers):
        for path in ("tags/list", f"blobs/{DIGEST}", "manifests/v1", f"referrers/{DIGEST}"):
            answers = []
            for name in ("team/there", "team/never"):
                found = await ask.request("GET", f"/v2/{name}/{path}", headers=headers)
                told = found.headers.getall("WWW-Authenticate", ())
                answers.append((found.status, str((told, found.body)).replace(name, "NAME")))
            assert answers[0] == answers[1]


# what changes


async def test_a_revoked_token_is_refused_at_the_next_request(ask: Pusher, people: People, site: Site) -> None:
    alice = await people.add("alice", "team/*=viewer")
    scoped = await token_for(ask, alice, "repository:team/app:pull")
    for headers in (alice.headers, bearer(scoped)):
        assert (await ask.request("GET", "/v2/team/app/tags/list", headers=headers)).status == 404
    revoked = await ask.request("DELETE", f"/api/v1/token/{alice.token_id}/", headers=alice.headers)
    assert revoked.status == 200
    # what was made with it ends with it
    for headers in (alice.headers, bearer(scoped), basic("alice", alice.token)):
        assert (await ask.request("GET", "/v2/team/app/tags/list", headers=headers)).status == 401


async def test_a_token_revoked_by_another_process_is_refused_within_two_seconds(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_in=CLOSED) as one, serving(tmp_path, sign_in=CLOSED) as other:
        alice = await People(one).add("alice", "team/*=viewer")
        assert (await Pusher(other).request("GET", "/v2/", headers=alice.headers)).status == 200
        await one.access.tokens.access.revoke(alice.token_id, by=BY)
        until = time.monotonic() + 2
        while (await Pusher(other).request("GET", "/v2/", headers=alice.headers)).status == 200:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)


async def test_rights_that_are_taken_away_are_gone_from_tokens_that_are_out(people: People, ask: Pusher) -> None:
    alice = await people.add("alice", "team/*=editor")
    scoped = bearer(await token_for(ask, alice, "repository:team/app:pull,push"))
    assert (await ask.request("POST", "/v2/team/app/blobs/uploads/", headers=scoped)).status == 202
    await people.bindings.unbind(Holder("account", "alice"), "team/*=editor", by=BY)
    for headers in (scoped, alice.headers):
        assert (await ask.request("POST", "/v2/team/app/blobs/uploads/", headers=headers)).status == 403


async def test_a_new_password_ends_what_the_old_one_made(people: People, ask: Pusher) -> None:
    alice = await people.add("alice", "team/*=viewer", password=PASSWORD)
    login = {"grant_type": "password", "username": "alice", "password": PASSWORD, "access_type": "offline"}
    given = json.loads((await post_token(ask, scope="repository:team/app:pull", **login)).body)
    by_password = (basic("alice"), bearer(given["token"]))
    for headers in by_password:
        assert (await ask.request("GET", "/v2/team/app/tags/list", headers=headers)).status == 404
    await people.accounts.set_password("alice", "another password", by=BY)
    for headers in by_password:
        assert (await ask.request("GET", "/v2/team/app/tags/list", headers=headers)).status == 401
    refreshed = await post_token(ask, grant_type="refresh_token", refresh_token=given["refresh_token"])
    assert refreshed.status == 401
    assert (
        await ask.request("GET", "/v2/team/app/tags/list", headers=basic("alice", "another password"))
    ).status == 404
    # it was given to a machine
    assert (await ask.request("GET", "/v2/team/app/tags/list", headers=alice.headers)).status == 404


async def test_a_disabled_account_is_refused_with_all_that_it_has(people: People, ask: Pusher) -> None:
    alice = await people.add("alice", "team/*=viewer", password=PASSWORD)
    scoped = bearer(await token_for(ask, alice, "repository:team/app:pull"))
    await people.add("admin", "*=admin")
    await people.accounts.disable("alice", by=BY)
    for headers in (alice.headers, scoped, basic("alice")):
        assert (await ask.request("GET", "/v2/", headers=headers)).status == 401


async def test_two_headers_are_refused_whatever_is_remembered(people: People, ask: Pusher) -> None:
    alice, bob = await people.add("alice"), await people.add("bob")
    both = CIMultiDict([*alice.headers.items(), *bob.headers.items()])
    cold = await ask.request("GET", "/v2/", headers=both)
    for each in (alice, bob):
        assert (await ask.request("GET", "/v2/", headers=each.headers)).status == 200
    warm = await ask.request("GET", "/v2/", headers=both)
    assert (cold.status, cold.body) == (warm.status, warm.body)
    assert (warm.status, warm.message) == (401, "there are several Authorization headers")


async def test_who_is_wrong_too_often_has_to_wait(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_in=replace_attempts(4)) as site:
        people, ask = People(site), Pusher(site)
        await people.add("alice", "team/*=viewer", password=PASSWORD)
        statuses = [
            (await ask.request("GET", "/v2/", headers=basic("alice", f"wrong {number}"))).status for number in range(4)
        ]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        waiting = await ask.request("GET", "/v2/", headers=basic("alice", "wrong again"))
        assert (waiting.status, waiting.code) == (429, "TOOMANYREQUESTS")
        assert int(waiting.headers["Retry-After"]) > 0
        async with site.access.audit.writing():
            pass
        newest = (await site.access.audit.read_page(AuditFilter(), None, 1)).events[0]
        assert (newest.action, newest.detail) == ("sign-in", {"reason": "too many attempts", "name": "alice"})


def replace_attempts(number: int) -> AccessSettings:
    return CLOSED.model_copy(update={"login_attempts": number})


async def test_without_accounts_on_loopback_everything_is_as_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_in=AccessSettings()) as site:
        ask, people = Pusher(site), People(site)
        assert (await ask.request("GET", "/v2/")).status == 200
        assert (await ask.whole("team/app", DATA, DIGEST)).status == 201
        assert (await ask.request("DELETE", f"/v2/team/app/blobs/{DIGEST}")).status == 202
        # with an account, whoever does not sign in may read and have images built
        alice = await people.add("alice")
        assert (await ask.request("GET", "/v2/")).status == 401
        assert (await ask.request("GET", "/v2/team/app/tags/list")).status == 200
        assert (await ask.request("POST", "/v2/team/app/blobs/uploads/")).status == 401
        assert (await ask.request("POST", "/v2/alice/app/blobs/uploads/", headers=alice.headers)).status == 202


async def token_for(ask: Pusher, person: Person, scope: str) -> str:
    found = await ask.request("GET", f"/token?scope={scope}", headers=person.headers)
    assert found.status == 200, found.body
    return str(json.loads(found.body)["token"])


async def post_token(ask: Pusher, **fields: str) -> Answer:
    async with ask.site.request("POST", "/token", data=fields) as answer:
        return Answer(answer.status, answer.headers, await answer.read())
