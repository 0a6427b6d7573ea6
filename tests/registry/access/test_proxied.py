"""People whom a proxy has signed in: whose header is believed, and what pages of other sites can do with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from aiohttp import web

from auth.accounts.bindings import Holder
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.changing import AccessData
from auth.settings import AccessSettings
from auth.sign_in.errors import SignInRefused
from auth.sign_in.settings import SignInSettings
from auth.sign_in.workload_settings import WorkloadSettings
from registry import observer
from registry.answers import Form
from registry.http.settings import HttpSettings
from tests.support.registry.people import BY, People, basic, bearer
from tests.support.registry.pushes import DATA, DIGEST, Pusher
from tests.support.registry.serving import ROOT, Site, serving

USER, GROUPS = "X-Forwarded-User", "X-Forwarded-Groups"
TAGS = "/v2/alice/app/tags/list"
UPLOADS = "/v2/alice/app/blobs/uploads/"


@contextlib.asynccontextmanager
async def behind(
    directory: Path, *proxies: str, header: str | None = USER, granting: tuple[str, ...] = ("none",)
) -> AsyncIterator[Site]:
    """A server that believes `proxies`."""
    settings = SignInSettings(proxy_user_header=header, proxy_groups_header=GROUPS if header else None)
    closed = AccessSettings(anonymous_bindings=granting)
    http = HttpSettings(trusted_proxies=proxies)
    jobs = WorkloadSettings(
        workload_issuers=("https://gitlab.example.org",),
        workload_audience="condery",
        workload_rules=('sub == "job" -> editor on jobs/*',),
    )
    async with serving(directory, http, sign_in=closed, elsewhere=settings, workload=jobs) as site:
        yield site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with behind(tmp_path, "127.0.0.1") as running:
        yield running


async def status(site: Site, headers: Mapping[str, str], method: str = "GET", path: str = TAGS) -> int:
    async with site.request(method, path, headers=headers) as response:
        await response.read()
        return response.status


async def who(site: Site, headers: Mapping[str, str]) -> object:
    async with site.request("GET", "/api/v1/permission/", headers=headers) as response:
        document = json.loads(await response.read())
        return document["data"]["primary_namespace"] if response.status == 200 else response.status


async def test_a_person_whom_the_proxy_names(site: Site) -> None:
    for _ in range(2):
        assert await who(site, {USER: "alice"}) == "alice"
        assert await status(site, {USER: "alice"}) == 404, "it is empty, which only who may read is told"
    assert await status(site, {USER: "alice"}, "POST", UPLOADS) == 202
    assert await status(site, {USER: "bob"}) == 403
    assert await status(site, {}) == 401
    assert await status(site, {USER: ""}) == 401
    people = People(site)
    assert [each.name for each in await people.accounts.list_all()] == ["alice", "bob"]


@pytest.mark.parametrize("proxies", [(), ("10.0.0.1",), ("::1",)])
async def test_nobody_else_is_believed(tmp_path: Path, proxies: tuple[str, ...]) -> None:
    async with behind(tmp_path, *proxies) as site:
        for more in ({}, {"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}, {"X-Real-IP": "10.0.0.1"}):
            assert await status(site, {USER: "alice", **more}) == 401
        assert await People(site).accounts.list_all() == []


async def test_the_header_is_read_only_if_the_settings_say_so(tmp_path: Path) -> None:
    async with behind(tmp_path, "127.0.0.1", header=None) as site:
        assert await status(site, {USER: "alice"}) == 401
        assert await People(site).accounts.list_all() == []


async def test_a_proxy_that_passes_on_its_clients_header_is_refused(site: Site) -> None:
    headers = [(USER, "admin"), (USER, "alice")]
    async with site.client.get(site.url + TAGS, headers=headers) as response:
        assert response.status == 403
        assert "2 headers X-Forwarded-User" in await response.text()
    assert await People(site).accounts.list_all() == []


async def test_a_name_of_a_local_account_goes_to_an_administrator(site: Site) -> None:
    people = People(site)
    await people.add("root-person")
    for _ in range(2):
        async with site.request("GET", TAGS, headers={USER: "root-person"}) as response:
            assert response.status == 403
            assert "root-person is the name of a person here already" in await response.text()
    async with site.request("GET", TAGS, headers={USER: "Al Ice"}) as response:
        assert response.status == 403
        message = json.loads(await response.read())["errors"][0]["message"]
        assert "condery user connect NAME --issuer proxy --subject 'Al Ice'" in message


async def test_nobody_is_admin_by_their_name_of_what_others_count_on(tmp_path: Path) -> None:
    async with behind(tmp_path, "127.0.0.1", granting=("public/*=viewer",)) as site:
        await People(site).add("bob", "team/*=editor")
        for name in ("team", "public", "jobs"):
            for method, path in (("GET", TAGS), ("GET", f"/v2/{name}/app/tags/list"), ("POST", UPLOADS)):
                assert await status(site, {USER: name}, method, path) == 403
            assert await who(site, {USER: name}) == 403
        assert [each.name for each in await People(site).accounts.list_all()] == ["bob"]
        await People(site).accounts.add_person("team", None, by=BY, take_namespace=True)
        assert await who(site, {USER: "team"}) == 403, "an administrator connects the two"


async def test_each_refusal_is_an_error_of_its_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of one that is raised again would grow with each request."""
    errors: list[Exception] = []
    answer = observer._answer_failure

    def answer_and_keep(request: web.Request, error: Exception, form: Form) -> web.StreamResponse:
        errors.append(error)
        return answer(request, error, form)

    monkeypatch.setattr(observer, "_answer_failure", answer_and_keep)
    for _ in range(3):
        assert await status(site, {USER: "Al Ice"}) == 403
    assert [type(each) for each in errors] == [SignInRefused] * 3
    assert len(set(map(id, errors))) == 3
    assert len(set(map(str, errors))) == 1


async def test_what_the_client_itself_shows_counts_first(site: Site) -> None:
    bob = await People(site).add("bob")
    assert await who(site, {USER: "alice", **bob.headers}) == "bob"
    for wrong in (bearer("condery_wrong"), basic("x", "condery_wrong")):
        assert await status(site, {USER: "alice", **wrong}) == 401


async def test_a_disabled_person_is_out_at_once(site: Site) -> None:
    assert await status(site, {USER: "alice"}) == 404
    people = People(site)
    await people.accounts.disable("alice", by=BY)
    assert await status(site, {USER: "alice"}) == 401
    await people.accounts.enable("alice", by=BY)
    assert await status(site, {USER: "alice"}) == 404


async def test_ghsa_c9p4_xwr9_rfhx_a_group_that_is_gone_takes_its_rights_with_it(site: Site) -> None:
    store = site.workshop.store
    groups = Groups(AccessData(store.database, store.changes), Names(ROOT))
    await groups.add("dev", by=BY)
    people = People(site)
    await people.bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
    path = "/v2/team/app/tags/list"
    assert await status(site, {USER: "alice"}, path=path) == 403
    assert await status(site, {USER: "alice", GROUPS: "ops, dev"}, path=path) == 404
    assert await status(site, {USER: "alice", GROUPS: "ops"}, path=path) == 403
    assert await status(site, {USER: "alice", GROUPS: "dev"}, path=path) == 404
    assert await status(site, {USER: "alice"}, path=path) == 403


@pytest.mark.parametrize("site_of_page", ["cross-site", "same-site", "none, cross-site", ""])
async def test_a_page_of_another_site_acts_for_nobody(site: Site, site_of_page: str) -> None:
    foreign = {USER: "alice", "Sec-Fetch-Site": site_of_page}
    for mode in ("no-cors", "cors", "navigate", "websocket", ""):
        for destination in ("image", "empty", "iframe"):
            sent = {**foreign, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
            assert await status(site, sent) == 401
    going = {**foreign, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert await status(site, going) == 404, "a person follows a link"
    for method, path in (("POST", UPLOADS), ("POST", "/api/v1/token/"), ("DELETE", "/api/v1/token/x/")):
        assert await status(site, going, method, path) in (401, 403)
        assert await status(site, {**going, "Origin": "https://other.example.org"}, method, path) in (401, 403)
    assert await People(site).site.access.tokens.access.list_tokens() == []


@pytest.mark.parametrize("site_of_page", ["same-origin", "none"])
async def test_a_page_of_this_server_acts_for_its_user(site: Site, site_of_page: str) -> None:
    assert await who(site, {USER: "alice", "Sec-Fetch-Site": site_of_page, "Sec-Fetch-Mode": "cors"}) == "alice"


async def test_many_requests_of_a_new_person_at_once(site: Site) -> None:
    assert await asyncio.gather(*(status(site, {USER: "alice"}) for _ in range(30))) == [404] * 30


async def test_odd_names_are_refused_and_nothing_crashes(site: Site) -> None:
    for name in ("a" * 300, "ÿþ", "a,b", '"alice"', "../alice", "anonymous", "alice;x", "A"):
        assert await status(site, {USER: name}) == 403
    assert await status(site, {USER: "alice", GROUPS: "," * 5000}) == 404


SPACES = sorted(
    {chr(number) for number in range(0x3001) if chr(number).isspace()} - set(" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f")
)
"""Python's white space that HTTP's headers may hold, and that is none to HTTP."""


@pytest.mark.parametrize("space", SPACES, ids=lambda each: f"U+{ord(each):04X}")
async def test_a_name_that_begins_or_ends_with_another_space_is_another(site: Site, space: str) -> None:
    assert await who(site, {USER: "alice"}) == "alice"
    for name in (f"{space}alice", f"alice{space}", f" {space}alice"):
        assert await who(site, {USER: name}) == 403
    store = site.workshop.store
    await Groups(AccessData(store.database, store.changes), Names(ROOT)).add("ops", by=BY)
    await People(site).bindings.bind(Holder("group", "ops"), "*=admin", by=BY)
    for group in (f"{space}ops", f"ops{space}", f"a, {space}ops"):
        assert await status(site, {USER: "bob", GROUPS: group}) == 403
    assert await status(site, {USER: "bob", GROUPS: "a, ops\t"}) == 404


async def test_no_shared_cache_keeps_a_blob_that_takes_a_sign_in(tmp_path: Path) -> None:
    """The proxy's header says who it is, so nothing in the client's request tells a cache that it is somebody."""
    closed = AccessSettings(anonymous_bindings=("open/*=viewer",))
    settings = SignInSettings(proxy_user_header=USER)
    http = HttpSettings(trusted_proxies=("127.0.0.1",))
    async with serving(tmp_path, http, sign_in=closed, elsewhere=settings) as site:
        root = await People(site).add("root", "*=admin")
        # her account, before anybody else uses its namespace
        assert await who(site, {USER: "alice"}) == "alice"
        for repository in ("alice/app", "open/app"):
            path = f"/v2/{repository}/blobs/uploads/?digest={DIGEST}"
            assert (await Pusher(site).request("POST", path, data=DATA, headers=root.headers)).status == 201
        for repository, sender, policy in (
            ("alice/app", {USER: "alice"}, "private, max-age=31536000, immutable"),
            ("open/app", {}, "max-age=31536000, immutable"),
        ):
            for more in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": f'"{DIGEST}"'}):
                answer = await Pusher(site).request(
                    "GET", f"/v2/{repository}/blobs/{DIGEST}", headers={**sender, **more}
                )
                assert answer.status < 400
                assert answer.headers["Cache-Control"] == policy
