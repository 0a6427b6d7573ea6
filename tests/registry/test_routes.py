"""The route table: closed by default, each route behind its permission, each error in its row's form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import hdrs, web

from auth.permission import PUBLIC, SIGNED_IN, Permission
from auth.principal import ANONYMOUS
from registry.access.browser.pages import begin_at_provider, begin_device, finish_at_provider, log_in, show_device
from registry.access.rights import Found
from registry.access.token_route import post_token
from registry.answers import Form
from registry.dispatch import READ_METHODS, AccountRoute, EntityRoute, RepositoryRoute, Route, RoutesInvalid, Row
from registry.errors import Unauthorized
from registry.http.references import Endpoint, Target
from registry.http.settings import HttpSettings
from registry.logs.request_log import request_log
from registry.logs.settings import LogSettings
from registry.routes import ROUTES, compose
from registry.ui import get_configuration, get_script, get_style, show_ui
from tests.support.registry.access import ClosedAccess, GrantedAccess
from tests.support.registry.people import People
from tests.support.registry.serving import ROOT, Site, serving

DIGEST = f"sha256:{'0' * 64}"
METHODS = sorted(hdrs.METH_ALL - {hdrs.METH_CONNECT, hdrs.METH_ANY})
FILLED = {
    "{reference}": "v1",
    "{digest}": DIGEST,
    "{session}": "00000000-0000-0000-0000-000000000000",
    "{tag}": "latest",
    "{file}": "conda-lock.yml",
    "{path:.*}": "default/analysis",
    "{namespace}": "team",
    "{environment}": "app",
    "{build}": "1",
    "{token}": "0123456789abcdef0123456789abcdef",
}
REPOSITORIES = ("team/app", f"{ROOT}/numpy", "mirror/docker.io/debian")


def paths(row: Row) -> list[str]:
    """What a client may write for the row's path, of each kind of repository."""
    path = row.path
    for field, value in FILLED.items():
        path = path.replace(field, value)
    return [path.replace("{name}", name) for name in REPOSITORIES] if "{name}" in path else [path]


def served(path: str) -> set[str]:
    """The methods that the table has for a row's path."""
    return {method for row in ROUTES if row.path == path for method in row.methods}


CASES = sorted({(row.path, path) for row in ROUTES for path in paths(row)})


async def fail(request: web.Request) -> web.StreamResponse:
    raise Unauthorized("https://x/token", "here", "repository:a:pull", "invalid_token")


async def fail_for_target(request: web.Request, target: Target) -> web.StreamResponse:
    return await fail(request)


async def read(site: Site, method: str, path: str, **options: Any) -> tuple[int, Any, bytes]:
    async with site.request(method, path, **options) as answer:
        return answer.status, answer.headers, await answer.read()


PUBLIC_ANSWERS: Mapping[object, int] = {
    post_token: 400,
    begin_device: 400,
    log_in: 400,
    show_device: 200,
    begin_at_provider: 404,
    finish_at_provider: 404,
    show_ui: 404,
    get_configuration: 404,
    get_script: 404,
    get_style: 404,
}
"""Of what needs a form, and of what is there only where people can sign in, or where there is a web interface."""


_NOTHING = {"count": 0, "data": []}
EMPTY_LISTS: Mapping[str, Mapping[str, Any]] = {
    "/v2/_catalog": {"repositories": []},
    "/api/v1/namespace/": _NOTHING,
    "/api/v1/environment/": _NOTHING,
    "/api/v1/build/": _NOTHING,
    "/api/v1/usage/": {"data": {}},
    "/api/v1/watch/": _NOTHING,
    "/api/v1/alarm/": _NOTHING,
}
"""What is listed for whoever may see nothing."""


@pytest.mark.parametrize(("pattern", "path"), CASES, ids=[path for _, path in CASES])
async def test_everything_is_refused_that_is_not_granted(tmp_path: Path, pattern: str, path: str) -> None:
    """Every route with every method, by somebody who may do nothing."""
    rows = {method: row for row in ROUTES if row.path == pattern for method in row.methods}
    access = ClosedAccess()
    async with serving(tmp_path, access=access) as site:
        await site.workshop.put(f"{ROOT}/numpy")
        await site.workshop.put_blob(b"secret", "team/app")
        for method in METHODS:
            status, headers, body = await read(site, method, path)
            row = rows.get(method)
            if row is None:
                assert status == 405, method
                assert set(headers["Allow"].split(", ")) == set(rows), method
            elif row.permission is PUBLIC:
                assert status == PUBLIC_ANSWERS.get(row.handler, 200), method
            elif row.path in EMPTY_LISTS:
                assert status == 200, method
                if method == "GET":
                    found = json.loads(body)
                    assert {name: found[name] for name in EMPTY_LISTS[row.path]} == EMPTY_LISTS[row.path]
            elif row.permission is not Permission.ENVIRONMENT_READ and "team/app" not in path and "/v2/" in path:
                assert status == 403, (method, body)  # by nobody, so no signing in would help
            else:
                assert status == 401, (method, body)
                assert "scope=" in headers["WWW-Authenticate"] or isinstance(row, AccountRoute | EntityRoute | Route)
                assert method == "HEAD" or b"UNAUTHORIZED" in body.upper()
    # where the path does not say the entity, it is asked whether one may know that it is there
    known = {Permission.ENVIRONMENT_READ, Permission.NAMESPACE_READ} if pattern.startswith("/api/") else set()
    assert {permission for _, permission, _ in access.asked} <= {row.permission for row in rows.values()} | known


async def test_a_grant_is_asked_for_by_the_permission_of_the_row_and_the_entity(tmp_path: Path) -> None:
    access = ClosedAccess()
    async with serving(tmp_path, access=access) as site:
        for method, path in [
            ("GET", f"/files/{ROOT}/numpy/latest/conda-lock.yml"),
            ("GET", f"/v2/{ROOT}/numpy/manifests/latest"),
            ("HEAD", "/v2/mirror/docker.io/debian/manifests/12"),
            ("PUT", "/v2/team/app/manifests/v1"),
            ("DELETE", "/v2/team/app/manifests/v1"),
            ("GET", "/v2/team/app/blobs/uploads/00000000-0000-0000-0000-000000000000"),
        ]:
            status, _, body = await read(site, method, path)
            assert status == 401
            assert method == "HEAD" or b"; sign in with docker login" in body
    assert access.asked == [
        (ANONYMOUS, Permission.ENVIRONMENT_READ, f"{ROOT}/*"),
        (ANONYMOUS, Permission.ENVIRONMENT_READ, f"{ROOT}/*"),
        (ANONYMOUS, Permission.ENVIRONMENT_READ, "mirror/docker.io/debian"),
        (ANONYMOUS, Permission.ENVIRONMENT_CREATE, "team/app"),
        (ANONYMOUS, Permission.ENVIRONMENT_DELETE, "team/app"),
        (ANONYMOUS, Permission.ENVIRONMENT_CREATE, "team/app"),
    ]


async def test_who_asks_is_one_for_access_the_handler_and_the_log(tmp_path: Path) -> None:
    access = ClosedAccess()
    async with serving(tmp_path) as site:
        alice, bob = [(await People(site).add(name)).headers for name in ("alice", "bob")]
        _, headers, _ = await read(site, "POST", "/v2/team/app/blobs/uploads/", headers=alice)
        session = headers["Location"]
        assert (await read(site, "GET", session, headers=alice))[0] == 204
        assert (await read(site, "GET", session, headers=bob))[0] == 404, "another's session"
        assert (await read(site, "GET", session))[0] == 404, "another's session"
    lines = [json.loads(line) for line in site.log.getvalue().splitlines()]
    assert [line["principal"] for line in lines] == ["alice", "alice", "bob", "anonymous"]
    assert [len(line.get("token_id", "")) for line in lines] == [32, 32, 32, 0]
    async with serving(tmp_path / "closed", access=access) as site:
        alice = (await People(site).add("alice")).headers
        status, _, body = await read(site, "GET", "/v2/team/app/tags/list", headers=alice)
        assert (status, json.loads(body)["errors"][0]["message"]) == (
            403,
            "alice may not pull from team/app (environment::read), and you are signed in as alice; "
            "ask an administrator for the role viewer there",
        )
    assert {principal.name for principal, _, _ in access.asked} == {"alice"}


async def test_who_cannot_be_told_is_answered_and_logged(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        headers = {"Authorization": "Bearer nonsense"}
        status, headers, body = await read(site, "GET", "/v2/team/app/tags/list", headers=headers)
        assert (status, json.loads(body)["errors"][0]["code"]) == (401, "UNAUTHORIZED")
        assert headers["WWW-Authenticate"].startswith(f'Bearer realm="{site.url}/token"')
    line = json.loads(site.log.getvalue())
    assert (line["status"], line["error"], line["principal"]) == (401, "Unauthorized", "anonymous")


READ_ON_DEMAND = (Permission.ENVIRONMENT_READ, f"{ROOT}/*")


@pytest.mark.parametrize("path", [f"/v2/{ROOT}/numpy/manifests/latest", f"/files/{ROOT}/numpy/latest/conda-lock.yml"])
async def test_having_something_built_takes_a_grant_of_its_own(tmp_path: Path, path: str) -> None:
    access = GrantedAccess(frozenset({READ_ON_DEMAND}))
    async with serving(tmp_path, HttpSettings(answer_within=0.01), access=access) as site:
        for method in reversed(READ_METHODS):  # a GET that is not refused would wait for the build
            status, _, body = await read(site, method, path)
            assert status == 401
            assert method == "HEAD" or f"built in {ROOT}/* (environment::create)".encode() in body
        assert not site.workshop.builds
        assert not site.workshop.artifacts
    access = GrantedAccess(frozenset({READ_ON_DEMAND, (Permission.ENVIRONMENT_CREATE, f"{ROOT}/*")}))
    async with serving(tmp_path / "more", HttpSettings(answer_within=0.01), access=access) as site:
        assert (await read(site, "HEAD", path))[0] == (200 if path.startswith("/v2/") else 503)
        assert len(site.workshop.builds) + len(site.workshop.artifacts) == 1


async def test_what_is_built_already_takes_the_right_to_read_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, access=GrantedAccess(frozenset({READ_ON_DEMAND}))) as site:
        await site.workshop.put(f"{ROOT}/numpy")
        for method in READ_METHODS:
            assert (await read(site, method, f"/v2/{ROOT}/numpy/manifests/latest"))[0] == 200


async def fail_to_find(request: web.Request) -> Found[Any]:
    raise Unauthorized("https://x/token", "here", "repository:a:pull", "invalid_token")


def failing(row: Row) -> Row:
    if isinstance(row, EntityRoute):
        return replace(row, find=fail_to_find)
    return replace(row, handler=fail_for_target if isinstance(row, RepositoryRoute) else fail)  # type: ignore[arg-type] # each has the handler of its class


async def test_a_challenge_is_told_in_the_form_of_each_row(tmp_path: Path) -> None:
    rows = [failing(row) for row in ROUTES]
    async with serving(tmp_path, routes=rows) as site:
        alice = (await People(site).add("alice")).headers
        for row in rows:
            for path in paths(row):
                method = row.methods[0]
                writes = row.permission not in (PUBLIC, Permission.ENVIRONMENT_READ)
                if writes and not path.startswith("/v2/team/app/"):
                    continue  # nobody may write there, whoever they are
                status, headers, body = await read(site, method, path, headers=alice)
                assert status == 401, path
                bearer = 'Bearer realm="https://x/token",service="here",scope="repository:a:pull",error="invalid_token"'
                basic = 'Basic realm="https://x/token"'
                # at the token endpoint only a password helps
                assert headers.getall("WWW-Authenticate") == ([basic] if row.form == "token" else [bearer, basic])
                text = body.decode()
                if row.form == "token":
                    assert json.loads(text)["error"] == "invalid_grant"
                if row.form in ("distribution", "token"):
                    assert json.loads(text)["errors"][0]["code"] == "UNAUTHORIZED"
                elif row.form == "rest":
                    assert json.loads(text)["code"] == "UNAUTHORIZED"
                else:
                    assert headers["Content-Type"] == "text/html; charset=utf-8"
                    assert "<h1>401 Unauthorized</h1><p>the credentials were not accepted (invalid_token);" in text
    assert {row.form for row in rows} == set(get_args(Form))


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v2", "distribution"),
        ("/v2/nothing", "distribution"),
        ("/v2/team/app/manifests/v1", "distribution"),
        ("/files/a", "rest"),
        ("/healthz", "rest"),
        ("/", "page"),
        ("/v2nothing", "rest"),
        ("/nothing", "rest"),
    ],
)
async def test_errors_have_the_form_of_the_row(tmp_path: Path, path: str, form: str) -> None:
    async with serving(tmp_path) as site:
        _, headers, body = await read(site, "POST", path)
    if path.endswith("nothing"):
        assert b"nothing is served at '" + path.encode() in body
    if form == "page":
        assert body.startswith(b"<!doctype html>")
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    else:
        assert set(json.loads(body)) == ({"errors"} if form == "distribution" else {"status", "code", "message"})


def test_whatever_a_path_can_be_for_has_a_row() -> None:
    assert {row.endpoint for row in ROUTES if isinstance(row, RepositoryRoute | Route)} - {None} == set(
        get_args(Endpoint)
    )


def test_each_row_is_told_in_a_line() -> None:
    for row in ROUTES:
        assert row.summary[0].islower(), row
        assert "\n" not in row.summary, row
        assert served(row.path) <= set(METHODS)


READING = next(row for row in ROUTES if isinstance(row, RepositoryRoute))
LISTING = next(row for row in ROUTES if isinstance(row, Route) and row.lists)
OWN = next(row for row in ROUTES if isinstance(row, AccountRoute) and row.permission is SIGNED_IN)
ABOUT = replace(OWN, path="/api/v1/namespace/{namespace}/", permission=Permission.NAMESPACE_READ, entity="{namespace}")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (replace(READING, permission=None), "GET /v2/{name}/tags/list has no permission"),
        (replace(LISTING, permission=None), "GET /v2/_catalog has no permission"),
        (replace(READING, permission=PUBLIC), "cannot have the permission"),  # type: ignore[arg-type] # that is tested
        (replace(READING, permission="environment::read"), "cannot have the permission"),  # type: ignore[arg-type] # too
        (replace(LISTING, permission="no such"), "cannot have the permission"),  # type: ignore[arg-type] # and this
        (
            replace(LISTING, lists=False),
            "nothing checks that the sender of GET /v2/_catalog has been granted environment::read",
        ),
        (ROUTES[0], "GET / is in the table twice"),
        (replace(LISTING, form="rest"), "differ in their form of errors"),
        (
            replace(READING, path="/v2/{other}/tags/list", permission=Permission.ENVIRONMENT_CREATE),
            "GET /v2/{other}/tags/list is in the table twice: /v2/{name}/tags/list is for the same",
        ),
        (
            replace(LISTING, path="/v2/{other}/tags/list", endpoint="tags", permission=PUBLIC, lists=False),
            "GET /v2/{other}/tags/list names a repository, so it cannot be a Route",
        ),
        (replace(READING, path="/v2/"), "GET /v2/ is a path of the endpoint base, not tags"),
        (replace(READING, path="/v2/", endpoint="base"), "GET /v2/ names no repository"),
        (replace(READING, endpoint="blobs"), "GET /v2/{name}/tags/list is a path of the endpoint tags, not blobs"),
        (replace(READING, path="/tags/{name}", form="rest"), "GET /tags/{name} is below none of /v2/, /files/"),
        (
            replace(READING, methods=("PUT",)),
            "PUT /v2/{name}/tags/list may change things, but requires",
        ),
        (replace(LISTING, endpoint=None), "GET /v2/_catalog is a path of the endpoint catalog, not None"),
        (replace(LISTING, path="/v2/other"), "no path below /v2/ is read as GET /v2/other"),
        (replace(LISTING, path="/v2", endpoint="base"), "GET /v2 is in the table twice: /v2/ is for the same"),
        (
            replace(LISTING, path="/other", methods=("POST",), permission=PUBLIC, lists=False),
            "POST /other may change things",
        ),
        (replace(OWN, permission=None), "GET /api/v1/token/ has no permission"),
        (replace(OWN, permission=PUBLIC), "cannot have the permission"),  # type: ignore[arg-type] # that is tested
        (replace(OWN, permission=Permission.NAMESPACE_READ), "GET /api/v1/token/ does not say on which entity"),
        (replace(OWN, entity="team"), "GET /api/v1/token/ is about the sender alone, and names the entity team"),
        (replace(READING, permission=SIGNED_IN), "cannot have the permission"),  # type: ignore[arg-type] # likewise
        (replace(LISTING, permission=SIGNED_IN), "cannot have the permission"),  # type: ignore[arg-type] # likewise
        (replace(ABOUT, entity="{name}"), "names {name} as its entity, which its path does not have"),
        (replace(ABOUT, methods=("PUT",)), "PUT /api/v1/namespace/{namespace}/ may change things, but requires"),
        (replace(ABOUT, methods=("GET", "PUT")), "GET PUT /api/v1/namespace/{namespace}/ reads and may change things"),
        (replace(READING, methods=("GET", "DELETE")), "GET DELETE /v2/{name}/tags/list reads and may change things"),
        (replace(OWN, path="/v2/token"), "GET /v2/token is below /v2/, so a repository is read from it"),
    ],
)
def test_a_table_that_is_open_by_mistake_does_not_start(row: Row, reason: str) -> None:
    others = [each for each in ROUTES if each.path != row.path or each is ROUTES[0]]
    with pytest.raises(RoutesInvalid) as caught:
        composed([*others, row])
    assert reason in str(caught.value)


def test_the_table_itself_starts() -> None:
    composed(ROUTES)


def composed(routes: Any) -> web.Application:
    open_parts: Callable[[], Any] = lambda: pytest.fail("not opened before it starts")  # noqa: E731 - it has one use
    return compose(HttpSettings(), open_parts, request_log(LogSettings()), routes=routes)
