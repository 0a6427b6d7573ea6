"""Every row of the route table, with every method that it has, for each kind of sender.

CVE-2026-27771 (Gitea, Forgejo): private images to anybody, for years. CVE-2022-31667, -31669, -31670 (Harbor): ids of
other projects. CVE-2024-28179 (jupyter-server-proxy): a stream without authentication.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import update

from auth.changing import AccessData
from auth.permission import PUBLIC, SIGNED_IN, Permission
from auth.role import ADMIN, EDITOR, VIEWER
from registry.dispatch import AccountRoute, EntityRoute, RepositoryRoute, Route, Row
from registry.routes import ROUTES
from storage.database.account_tables import access_token
from storage.environments.log_record import write_records
from storage.environments.logs import Appended
from storage.environments.vocabulary import NewSpecification
from tests.support.registry.access import CLOSED
from tests.support.registry.people import BY, PASSWORD, People, Person, basic, bearer
from tests.support.registry.pushes import DATA, DIGEST, Answer, Pusher
from tests.support.registry.serving import ROOT, Site, serving

FILLED = {
    "{reference}": "v1",
    "{digest}": DIGEST,
    "{session}": "00000000-0000-0000-0000-000000000000",
    "{tag}": "latest",
    "{file}": "conda-lock.yml",
    "{namespace}": "team",
    "{environment}": "Env",
    "{build}": "1",
    "{path:.*}": "team/Env",
}
BODY = b'{"specification":"name: env","namespace":"team"}'
"""What says itself what it is about; elsewhere it has fields that are not known."""
SECRET = "what only readers of team may know"
REPOSITORIES = ("team/app", "team/app/deep", "team", f"{ROOT}/numpy", "mirror/docker.io/debian")
ROLES = {"viewer": VIEWER, "editor": EDITOR, "admin": ADMIN}
BROWSERS = frozenset({"/login/provider", "/login/callback"})
"""Pages that are there only where people can sign in at a provider, which they cannot here."""
OPEN = frozenset(
    {"/", "/v2/", "/healthz", "/readyz", "/token", "/api/v1/", "/api/v1/permission/", "/api/openapi.json", "/api/docs"}
)
INTERFACE = frozenset({"/ui/", "/ui/runtime-config.js", "/ui/main.js", "/ui/main.css", "/ui/{path:.*}"})
"""The web interface has nothing in it of anybody's, and is not there where none is installed, as here."""
PAGES = OPEN | BROWSERS | INTERFACE | {"/login", "/device", "/device/code"}
"""What is for everybody, or says itself who it is for. A new public route has to be named here."""

LISTS = frozenset(row.path for row in ROUTES if isinstance(row, Route) and row.lists)
"""What shows whoever may do anything what they may see; tests of their own have it, such as test_hidden."""


def paths(row: Row, token: str) -> list[str]:
    path = row.path.replace("{token}", token)
    for name, value in FILLED.items():
        path = path.replace(name, value)
    found = [path.replace("{name}", name) for name in REPOSITORIES] if "{name}" in path else [path]
    assert not any("{" in each for each in found), f"say in FILLED what stands in {row.path}"
    return found


def requests(token: str = "0" * 32) -> list[tuple[Row, str, str]]:
    return [(row, method, path) for row in ROUTES for method in row.methods for path in paths(row, token)]


IMAGE = "/api/v1/image/"
"""Where a name on demand is made, which everybody who signed in may do, as they may have such images built."""


def about(row: Row, path: str) -> str:
    """The path, with what it is about if it does not say that itself: the build is one of team's environment."""
    if row.path == IMAGE:
        return f"{path}{ROOT}/"
    return f"{path}/team/env" if isinstance(row, EntityRoute) and "{namespace}" not in row.path else path


async def fill(site: Site) -> None:
    environments = site.workshop.store.environments.environments
    build = await environments.ask_for_build("team", "Env", "team/env", NewSpecification("Env", {}, {}), by="alice")
    assert str(build.id) == FILLED["{build}"]
    await site.workshop.store.environments.building.end_left(build.id, SECRET, canceled=True)
    logs = site.workshop.store.environments.logs
    await logs.append([Appended(build.id, b"".join(write_records("state", SECRET)), begins=True)])
    await logs.finish(build.id)
    for name in ("team/app", "team/app/deep", "team"):
        await site.workshop.put_blob(DATA, name)
    await site.workshop.put(f"{ROOT}/numpy")


async def ask_for(ask: Pusher, method: str, path: str, headers: Mapping[str, str]) -> Answer:
    data = BODY if method in ("POST", "PUT", "PATCH") else None
    return await ask.request(method, path, headers={"Content-Type": "application/json", **headers}, data=data)


def test_cve_2024_28179_every_route_of_the_router_is_swept(site: Site) -> None:
    """jupyter-server-proxy: a stream without authentication. Streams and all else: whatever the router knows."""
    swept = {row.path for row, _, _ in requests()}
    assert swept == {row.path for row in ROUTES}
    with_either_end = {path.rstrip("/") for path in swept}
    for resource in site.app.router.resources():
        path = resource.canonical
        # repositories' names contain slashes, so that the router knows only the folders in which they are
        folder = path.removesuffix("{path}")
        if path == "/ui/{path}":
            continue
        assert path.rstrip("/") in with_either_end or any(each.startswith(folder) for each in swept if folder != path)
        assert [route.method for route in resource] == ["*"], "the table has the methods"


def test_what_is_public_is_named_here() -> None:
    assert {row.path for row in ROUTES if row.permission is PUBLIC} == PAGES


async def refused_everywhere(ask: Pusher, headers: Mapping[str, str]) -> None:
    """Credentials that do not hold are refused everywhere, and never taken for none."""
    for row, method, path in requests():
        found = await ask_for(ask, method, path, headers)
        if row.probe:
            assert found.status == 200
        else:
            assert found.status == 401, (method, path, found.body)
            assert "WWW-Authenticate" in found.headers


async def test_cve_2026_27771_nobody(ask: Pusher, site: Site) -> None:
    await fill(site)
    for row, method, path in requests():
        found = await ask_for(ask, method, path, {})
        if row.permission is PUBLIC:
            missing = path in BROWSERS or row.path in INTERFACE
            assert found.status in ((404,) if missing else (200, 400, 401)), (method, path)
        elif row.path in LISTS and found.status == 200:
            assert method == "HEAD" or empty(found), path
        else:
            # where nobody may write, signing in would not help
            assert found.status == 401 or (found.status == 403 and never_written(row, path)), (method, path, found.body)
        assert DATA not in found.body
        assert SECRET.encode() not in found.body
    assert not site.workshop.builds


ON_DEMAND = f"{ROOT}/*"
VISIBILITIES = {
    "private": ((), ()),
    "one namespace": (("team/*=viewer",), ("/team",)),
    "one repository": (("team/app=viewer",), ("/team/app/",)),
    "one environment": (("team/env=viewer",), ("/team/env/",)),
    "on-demand images": ((f"{ON_DEMAND}=viewer",), (f"/{ROOT}/",)),
    "copies": (("mirror/*=viewer",), ("/mirror/",)),
    "everything": (("*=viewer",), ("/team", f"/{ROOT}/", "/mirror/")),
}
"""What anybody may read, and what the paths of that have in them."""


@pytest.mark.parametrize("visibility", VISIBILITIES)
async def test_cve_2026_27771_nobody_reads_more_than_is_public(tmp_path: Path, visibility: str) -> None:
    bindings, shown = VISIBILITIES[visibility]
    settings = CLOSED.model_copy(update={"anonymous_bindings": bindings or ("none",)})
    async with serving(tmp_path, sign_in=settings) as site:
        await fill(site)
        await People(site).add("somebody")
        ask = Pusher(site)
        anonymous = bearer(json.loads((await ask.request("GET", "/token")).body)["token"])
        for row, method, path in requests():
            if row.permission is PUBLIC or row.path in LISTS:
                continue
            found = await ask_for(ask, method, path, {})
            deeper = visibility == "one repository" and "/team/app/deep/" in path
            where = f"{about(row, path)}/".lower()
            readable = row.permission in VIEWER.permissions and any(each in where for each in shown)
            if readable and not deeper:
                # what is not there yet is not built for nobody
                assert found.status in (200, 400, 404) or (found.status == 401 and ROOT in path), (method, path)
            else:
                assert found.status == 401 or (found.status == 403 and never_written(row, path)), (method, path)
                assert (await ask_for(ask, method, path, anonymous)).status in (401, 403), (method, path)
                assert DATA not in found.body
                assert SECRET.encode() not in found.body
        assert not site.workshop.builds.keys() - {f"{ROOT}/numpy"}


def empty(answer: Answer) -> bool:
    """Whether a list has nothing in it, and counts nothing."""
    found = json.loads(answer.body)
    return found in ({"repositories": []}, {"status": "ok", "data": {}}) or (found["data"], found["count"]) == ([], 0)


def never_written(row: Row, path: str) -> bool:
    return (
        isinstance(row, RepositoryRoute)
        and row.permission is not Permission.ENVIRONMENT_READ
        and (ROOT in path or "/mirror/" in path)
    )


@pytest.mark.parametrize("role", ROLES)
async def test_somebody_in_the_namespace(ask: Pusher, people: People, site: Site, role: str) -> None:
    """They pass where their role has the row's permission, and nowhere else."""
    await fill(site)
    person = await people.add("somebody", f"team/*={role}")
    for row, method, path in requests():
        if row.permission in (PUBLIC, SIGNED_IN) or row.path in LISTS:
            continue
        found = await ask_for(ask, method, path, person.headers)
        about_team = "/team" in about(row, path)
        granted = about_team and row.permission in ROLES[role].permissions
        # on-demand images that are there may be read by everybody who signed in
        granted |= ROOT in path and row.permission is Permission.ENVIRONMENT_READ
        granted |= row.path == IMAGE
        assert (found.status == 403) != granted, (method, path, found.status, found.body)
        assert found.status != 401, (method, path)


async def test_cve_2022_31667_31669_31670_an_admin_of_another_namespace(
    ask: Pusher, people: People, site: Site
) -> None:
    await fill(site)
    alice = await people.add("alice", "team/*=viewer")
    person = await people.add("mallory", "mallory/*=admin", "teams/*=admin", "tea/*=admin")
    for row, method, path in requests(alice.token_id):
        if row.permission is PUBLIC or row.path in LISTS:
            continue
        found = await ask_for(ask, method, path, person.headers)
        if "{token}" in row.path:
            assert found.status == 404
        elif isinstance(row, AccountRoute) and row.permission is SIGNED_IN:
            # what a token cannot do is refused before the form is read
            expected = (404,) if path in BROWSERS else (403,) if path == "/device" else (200, 400)
            assert found.status in expected, (method, path)
            assert alice.token_id.encode() not in found.body
        elif row.path == IMAGE:
            assert found.status == 404, "nothing is built here"
        elif isinstance(row, EntityRoute):
            # what is asked for in a body need not be there, so nobody would learn whether it is
            assert found.status == (404 if "{" in row.path else 403), (method, path, found.body)
        elif ROOT in path and row.permission is Permission.ENVIRONMENT_READ:
            assert found.status in (200, 404, 503)
        else:
            assert found.status == 403, (method, path, found.status, found.body)
        assert DATA not in found.body
        assert SECRET.encode() not in found.body
    assert (await ask.request("GET", "/v2/", headers=alice.headers)).status == 200


async def test_a_revoked_token(ask: Pusher, people: People, site: Site) -> None:
    person = await people.add("alice", "*=admin")
    await site.access.tokens.access.revoke(person.token_id, by=BY)
    await refused_everywhere(ask, person.headers)
    await refused_everywhere(ask, basic("alice", person.token))


async def test_a_registry_token_is_for_repositories_alone(ask: Pusher, people: People) -> None:
    """On no other route is it a credential, and none says whose it is."""
    alice = await people.add("alice-of-the-test", "*=admin")
    scopes = {"repository:team/app": ("pull", "push", "delete"), "registry:catalog": ("*",)}
    for person in (alice, None):
        headers = bearer((await people.registry_token(person, scopes)).text)
        for row, method, path in requests(alice.token_id):
            if isinstance(row, RepositoryRoute) or row.form == "distribution" or row.probe:
                continue
            found = await ask_for(ask, method, path, headers)
            # a program that wants to sign in needs no credentials, and has its own way to say what is missing
            expected = (400, 401) if row.form == "token" else (401,) if person is None else (403,)
            assert found.status in (403, *expected), (method, path, found.body)
            assert b"alice" not in found.body
    assert (await ask.request("GET", "/api/v1/token/", headers=alice.headers)).status == 200


async def test_an_expired_token(ask: Pusher, people: People, site: Site) -> None:
    """And the registry token that was made with it."""
    person = await people.add("alice", "*=admin")
    made = await ask.request("GET", "/token?scope=repository:team/app:pull,push,delete", headers=person.headers)
    await expire(site, person)
    await refused_everywhere(ask, person.headers)
    await refused_everywhere(ask, bearer(json.loads(made.body)["token"]))


async def test_a_disabled_and_a_deleted_account(ask: Pusher, people: People) -> None:
    await people.add("root", "*=admin", password=PASSWORD)
    person = await people.add("alice", "*=admin", password=PASSWORD)
    scoped = bearer((await people.registry_token(person, {"repository:team/app": ("pull",)})).text)
    await people.accounts.disable("alice", by=BY)
    for headers in (person.headers, scoped):
        await refused_everywhere(ask, headers)
    await people.accounts.delete("alice", by=BY)
    for headers in (person.headers, scoped):
        await refused_everywhere(ask, headers)


async def test_cve_2026_41888_a_server_that_is_read_only_refuses_every_change(tmp_path: Path) -> None:
    """CVE-2026-41888 (distribution): tag deletion ignores "deletion off": tag, digest, blob, session."""
    async with serving(tmp_path, sign_in=CLOSED, read_only=True) as site:
        person, ask = await People(site).add("alice", "*=admin"), Pusher(site)
        for row, method, path in requests():
            if isinstance(row, RepositoryRoute) and row.permission is not Permission.ENVIRONMENT_READ:
                for reference in (path, path.replace("/v1", f"/{DIGEST}")):
                    found = await ask_for(ask, method, reference, person.headers)
                    assert (found.status, found.code) == (403, "DENIED"), (method, reference)


async def expire(site: Site, person: Person) -> None:
    """Let the access token's time be over."""
    store = site.workshop.store
    async with AccessData(store.database, store.changes).changing() as connection:
        await connection.execute(update(access_token).where(access_token.c.id == person.token_id).values(expires=1.0))
