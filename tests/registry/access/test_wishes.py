"""What a browser adds to requests by itself. A page of another site can have nothing done with it that lasts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from auth.settings import AccessSettings
from auth.sign_in.settings import SignInSettings
from registry.http.settings import HttpSettings
from tests.support.registry.people import PASSWORD, People, basic, bearer
from tests.support.registry.pushes import Pusher
from tests.support.registry.serving import ROOT, Site, serving

USER = "X-Forwarded-User"
IMAGE, FILE = f"/v2/{ROOT}/numpy/manifests/latest", f"/files/{ROOT}/numpy/latest/conda-lock.yml"
LED = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
WAYS = ("proxy", "cookie", "remembered password")
BUILDERS = AccessSettings(anonymous_bindings=("none",), signed_in_bindings=(f"{ROOT}/*=editor",))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    http = HttpSettings(trusted_proxies=("127.0.0.1",), answer_within=0.1)
    async with serving(tmp_path, http, sign_in=BUILDERS, elsewhere=SignInSettings(proxy_user_header=USER)) as running:
        yield running


async def shown(site: Site, way: str) -> Mapping[str, str]:
    """What a browser sends of itself for alice."""
    if way == "proxy":
        return {USER: "alice"}
    await People(site).add("alice", password=PASSWORD)
    if way == "remembered password":
        return basic("alice")
    login = {"username": "alice", "password": PASSWORD}
    async with site.request("POST", "/login", json=login, allow_redirects=False) as answer:
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


async def builds(site: Site, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a request begins a build."""
    answer = await Pusher(site).request("HEAD" if path == IMAGE else "GET", path, headers=headers)
    assert answer.status in (200, 403, 503)
    begun = bool(site.workshop.builds or site.workshop.artifacts)
    assert begun == (answer.status != 403)
    return begun


@pytest.mark.parametrize("way", WAYS)
async def test_a_page_of_another_site_has_nothing_built(site: Site, way: str) -> None:
    who = await shown(site, way)
    for path in (IMAGE, FILE):
        for fetch_site in ("cross-site", "same-site", ""):
            assert not await builds(site, path, {**who, **LED, "Sec-Fetch-Site": fetch_site}), path
    await site.workshop.put(f"{ROOT}/numpy")
    # what is there is read, wherever the link to it was
    found = await Pusher(site).request("GET", IMAGE, headers={**who, **LED, "Sec-Fetch-Site": "cross-site"})
    assert found.status == 200


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}])
@pytest.mark.parametrize("way", WAYS)
async def test_a_person_has_what_they_ask_for_built(site: Site, way: str, headers: dict[str, str]) -> None:
    who = await shown(site, way)
    for path in (IMAGE, FILE):
        assert await builds(site, path, {**who, **headers})


async def test_a_page_that_has_a_token_was_given_it(site: Site) -> None:
    alice = await People(site).add("alice")
    assert await builds(site, IMAGE, {**alice.headers, "Sec-Fetch-Site": "cross-site"})


async def test_where_anybody_may_build_a_page_may(tmp_path: Path) -> None:
    anybody = AccessSettings(anonymous_bindings=(f"{ROOT}/*=editor",))
    async with serving(tmp_path, HttpSettings(answer_within=0.1), sign_in=anybody) as site:
        assert await builds(site, IMAGE, {**LED, "Sec-Fetch-Site": "cross-site"})


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_browser_adds_makes_no_refresh_token(site: Site, way: str) -> None:
    who = await shown(site, way)
    for more in ({}, {"Sec-Fetch-Site": "same-origin"}, {**LED, "Sec-Fetch-Site": "cross-site"}):
        answer = await Pusher(site).request("GET", "/token?offline_token=true", headers={**who, **more})
        own = way == "remembered password" and "Sec-Fetch-Mode" not in more
        assert (answer.status == 200) == own, more
        assert (b"refresh_token" in answer.body) == own
        short = await Pusher(site).request("GET", "/token", headers={**who, **more})
        assert short.status == 200
        assert (
            await Pusher(site).request("GET", "/v2/", headers=bearer(json.loads(short.body)["token"]))
        ).status == 200
