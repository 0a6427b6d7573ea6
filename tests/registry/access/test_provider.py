"""A person signs in at a real provider, as their browser does it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from auth.accounts.bindings import Holder
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.changing import AccessData
from auth.settings import AccessSettings
from auth.sign_in.settings import SignInSettings
from registry.http.settings import HttpSettings
from tests.support.registry.people import BY, People
from tests.support.registry.serving import ROOT, Site, serving
from tests.support.servers.oidc_provider import OidcProvider, ProviderUnavailable, install_provider
from tests.support.servers.running import running

pytestmark = pytest.mark.services

PUBLIC = "http://condery.test"
TEAM = "/v2/team/app/tags/list"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OidcProvider]:
    try:
        install_provider()
    except ProviderUnavailable as error:
        pytest.skip(str(error))
    directory = tmp_path / "provider"
    directory.mkdir()
    with running(OidcProvider(f"{PUBLIC}/login/callback", directory)) as started:
        yield started


async def follow(client: aiohttp.ClientSession, url: URL) -> tuple[URL, str]:
    """Go where redirects lead, until there is a page, or the way back to us."""
    for _ in range(10):
        if url.host == URL(PUBLIC).host:
            return url, ""
        async with client.get(url, allow_redirects=False) as response:
            if response.status == 200:
                return url, await response.text()
            url = url.join(URL(response.headers["Location"]))
    raise AssertionError(url)


async def sign_in(site: Site, name: str) -> dict[str, str]:
    """The headers of a browser that has signed in as `name`, with its answers to the provider's two pages."""
    async with site.request("GET", "/login/provider?next=/v2/", allow_redirects=False) as response:
        url, cookie = URL(response.headers["Location"]), response.headers["Set-Cookie"].partition(";")[0]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        for answer in ({"prompt": "login", "login": name, "password": "any"}, {"prompt": "consent"}):
            url, page = await follow(client, url)
            found = re.search(r'action="([^"]+)"', page)
            assert found, page
            async with client.post(url.join(URL(found[1])), data=answer, allow_redirects=False) as response:
                url = url.join(URL(response.headers["Location"]))
        back, _ = await follow(client, url)
    async with site.request("GET", back.raw_path_qs, headers={"Cookie": cookie}, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/v2/"), await response.text()
        return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


async def test_a_person_signs_in_at_a_real_provider(tmp_path: Path, provider: OidcProvider) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret of a test\n")
    elsewhere = SignInSettings(
        oidc_issuer=provider.url, oidc_client_id="condery", oidc_client_secret_file=secret, oidc_groups_claim="groups"
    )
    closed = AccessSettings(anonymous_bindings=("none",))
    http = HttpSettings(public_url=PUBLIC)
    async with serving(tmp_path / "data", http, sign_in=closed, elsewhere=elsewhere) as site:
        people, store = People(site), site.workshop.store
        await Groups(AccessData(store.database, store.changes), Names(ROOT)).add("dev", by=BY)
        await people.bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
        headers = await sign_in(site, "Alice")
        async with site.request("GET", "/api/v1/permission/", headers=headers) as response:
            assert json.loads(await response.read())["data"]["primary_namespace"] == "alice"
        async with site.request("GET", TEAM, headers=headers) as response:
            assert response.status == 404, "it is empty, which only who may read is told"
        async with site.request("GET", TEAM) as response:
            assert response.status == 401
        # the same person again, who is not made anew
        assert await sign_in(site, "Alice") != headers
        assert [each.name for each in await people.accounts.list_all()] == ["alice"]
