"""A person signs in at a real provider, as their browser does it, which is asked again later who they are."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from auth.accounts.bindings import Holder
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.sign_in.settings import SignInSettings
from registry.access.browser import sessions as remembered
from registry.http.settings import HttpSettings
from tests.support.npm_packages import NpmPackageUnavailable
from tests.support.registry.access import CLOSED
from tests.support.registry.browser import PROVIDER, Answer, Browser, age, data_of
from tests.support.registry.people import BY, People, bearer
from tests.support.registry.serving import ROOT, Site, serving
from tests.support.servers.providers.oidc_provider import OidcProvider, install_provider
from tests.support.servers.running import running

pytestmark = pytest.mark.services

PUBLIC = "http://condery.test"
TEAM = "/v2/team/app/tags/list"
ELEVEN_MINUTES = 660.0


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OidcProvider]:
    try:
        install_provider()
    except NpmPackageUnavailable as error:
        pytest.skip(str(error))
    directory = tmp_path / "provider"
    directory.mkdir()
    with running(OidcProvider(f"{PUBLIC}/login/callback", directory)) as started:
        started.put("Alice", "dev", "Domain Users")
        yield started


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is looked up anew."""
    monkeypatch.setattr(remembered, "REMEMBER_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def opened(directory: Path, provider: OidcProvider, **settings: Any) -> AsyncIterator[Site]:
    """A server where the group dev may read everything of the team."""
    secret = directory / "secret"
    secret.write_text("secret of a test\n")
    elsewhere = SignInSettings(
        oidc_issuer=provider.url,
        oidc_client_id="condery",
        oidc_client_secret_file=secret,
        oidc_groups_claim="groups",
        **settings,
    )
    http = HttpSettings(public_url=PUBLIC)
    async with serving(directory / "data", http, sign_in=CLOSED, elsewhere=elsewhere) as site:
        await Groups(data_of(site), Names(ROOT)).add("dev", by=BY)
        await People(site).bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
        yield site


@pytest.fixture
async def site(tmp_path: Path, provider: OidcProvider) -> AsyncIterator[Site]:
    async with opened(tmp_path, provider) as running_site:
        yield running_site


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


async def sign_in(browser: Browser, name: str, **changes: str) -> Answer:
    """Answer the provider's two pages as `name`; `changes` are those of the link to it, by somebody on its way."""
    url = URL((await browser.ask("GET", f"{PROVIDER}?next=/v2/")).location).update_query(changes)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        for answer in ({"prompt": "login", "login": name, "password": "any"}, {"prompt": "consent"}):
            url, page = await follow(client, url)
            found = re.search(r'action="([^"]+)"', page)
            assert found, page
            async with client.post(url.join(URL(found[1])), data=answer, allow_redirects=False) as response:
                url = url.join(URL(response.headers["Location"]))
        back, _ = await follow(client, url)
    return await browser.ask("GET", back.raw_path_qs)


async def signed_in(site: Site, name: str = "Alice") -> Browser:
    browser = Browser(site)
    answer = await sign_in(browser, name)
    assert (answer.status, answer.location) == (303, "/v2/"), answer.text
    return browser


async def status(browser: Browser, headers: Mapping[str, str] | None = None) -> int:
    """404 for who may read what the group may: it is empty, which only they are told."""
    return (await browser.ask("GET", TEAM, headers)).status


async def make_access_token(site: Site) -> Mapping[str, str]:
    """The headers with one of alice."""
    people = People(site)
    principal = await people.load((await people.accounts.find("alice")).id)
    return bearer((await site.access.tokens.access.make(principal, "laptop", None, by=BY)).text)


async def test_a_person_signs_in_at_a_real_provider(site: Site) -> None:
    browser = await signed_in(site)
    assert await browser.who() == "alice"
    assert await status(browser) == 404
    assert await status(Browser(site)) == 401
    # the same person again, who is not made anew
    assert (await signed_in(site)).cookies != browser.cookies
    assert [each.name for each in await People(site).accounts.list_all()] == ["alice"]


async def test_a_code_challenge_that_was_changed_on_the_way(site: Site) -> None:
    """RFC 7636: a code is worth nothing without the verifier, which only the server has in which the sign-in began."""
    browser = Browser(site)
    answer = await sign_in(browser, "Alice", code_challenge="A" * 43)
    assert answer.status == 403
    assert "or refuses" in answer.text
    assert await browser.who() == 401


async def test_a_group_that_is_gone_takes_its_rights_with_it_also_from_access_tokens(
    site: Site, provider: OidcProvider
) -> None:
    browser = await signed_in(site)
    token = await make_access_token(site)
    provider.put("Alice", "Domain Users")
    assert (await status(browser), await status(Browser(site), token)) == (404, 404), "it was asked a moment ago"
    await age(site, ELEVEN_MINUTES)
    assert (await status(browser), await status(Browser(site), token)) == (403, 403)
    assert await browser.who() == "alice"
    # each refresh token is good for once
    for groups, expected in ((["dev"], 404), ([], 403), (["dev", "Domain Users"], 404)):
        provider.put("Alice", *groups)
        await age(site, ELEVEN_MINUTES)
        assert (await status(browser), await status(Browser(site), token)) == (expected, expected)


async def test_who_is_disabled_there_loses_the_session_and_keeps_access_tokens_until_the_account_is_disabled_here(
    site: Site, provider: OidcProvider
) -> None:
    browsers = [await signed_in(site), await signed_in(site)]
    token = await make_access_token(site)
    provider.disable("Alice")
    await age(site, ELEVEN_MINUTES)
    assert [await each.who() for each in browsers] == [401, 401]
    # the account is as it was: the provider refuses also what has merely expired there
    assert await status(Browser(site), token) == 404
    await People(site).accounts.disable("alice", by=BY)
    assert await status(Browser(site), token) == 401
    provider.put("Alice", "dev")
    answer = await sign_in(Browser(site), "Alice")
    assert (answer.status, "disabled" in answer.text) == (403, True)


async def test_consent_for_access_while_the_person_is_away(tmp_path: Path, provider: OidcProvider) -> None:
    """Some providers give a refresh token for the scope offline_access alone."""
    scopes = ("openid", "profile", "offline_access")
    async with opened(tmp_path, provider, oidc_scopes=scopes) as site:
        browser = await signed_in(site)
        provider.put("Alice")
        await age(site, ELEVEN_MINUTES)
        assert await status(browser) == 403
