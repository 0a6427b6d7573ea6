"""Signing in at another provider than ours of the tests: its discovery, its odd claims, its refreshes, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from auth.accounts.bindings import Holder
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.sign_in import issuer_keys, provider, renewal
from auth.sign_in.settings import SignInSettings
from registry.access.browser import sessions as remembered
from registry.http.settings import HttpSettings
from tests.support.registry.access import CLOSED
from tests.support.registry.browser import PROVIDER, Answer, Browser, age, data_of
from tests.support.registry.people import BY, People
from tests.support.registry.serving import ROOT, Site, serving
from tests.support.servers.providers.oidc_mock import OidcMock
from tests.support.servers.running import running

PUBLIC = "https://registry.example.org"
SESSION = "__Host-condery-session"
TEAM = "/v2/team/app/tags/list"
ELEVEN_MINUTES = 660.0


@pytest.fixture(scope="module")
def mock() -> Iterator[OidcMock]:
    with running(OidcMock()) as started:
        yield started


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is looked up anew, and a provider that was down is asked again at once."""
    monkeypatch.setattr(remembered, "REMEMBER_SECONDS", 0.0)
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)
    for module in (provider, issuer_keys):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(issuer_keys, "AGAIN_SECONDS", 0.0)


@pytest.fixture
async def site(tmp_path: Path, mock: OidcMock) -> AsyncIterator[Site]:
    secret = tmp_path / "secret"
    secret.write_text("any")
    elsewhere = SignInSettings(
        oidc_issuer=mock.url, oidc_client_id="condery", oidc_client_secret_file=secret, oidc_groups_claim="groups"
    )
    http = HttpSettings(public_url=PUBLIC)
    async with serving(tmp_path / "data", http, sign_in=CLOSED, elsewhere=elsewhere) as site:
        await Groups(data_of(site), Names(ROOT)).add("dev", by=BY)
        await People(site).bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
        yield site


async def begin(browser: Browser) -> str:
    """Where the browser is sent."""
    answer = await browser.ask("GET", f"{PROVIDER}?next=/v2/")
    assert answer.status == 303, answer.text
    return answer.location


async def come_back(browser: Browser, url: str) -> Answer:
    assert url.startswith(f"{PUBLIC}/login/callback?")
    return await browser.ask("GET", url.removeprefix(PUBLIC))


async def sign_in(browser: Browser, mock: OidcMock, subject: str) -> Answer:
    return await come_back(browser, mock.authorize(await begin(browser), subject))


async def may_read(browser: Browser) -> bool:
    """Whether it may read what the group may; it is empty."""
    status = (await browser.ask("GET", TEAM)).status
    assert status in (401, 403, 404)
    return status == 404


def change(url: str, **fields: str) -> str:
    """A link that somebody has tampered with on its way."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | fields
    return parts._replace(query=urlencode(query)).geturl()


async def refused(browser: Browser, answer: Answer) -> str:
    assert answer.status == 403, answer.text
    assert SESSION not in browser.cookies
    assert await browser.who() == 401
    return answer.text


async def test_a_person_signs_in(site: Site, mock: OidcMock) -> None:
    mock.set_user("1", preferred_username="alice", groups=["dev", "others"])
    browser = Browser(site)
    url = await begin(browser)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith(f"{mock.url}/oauth2/authorize?"), "discovery says where"
    assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)
    assert len(asked["nonce"]) >= 43
    assert len(asked["state"]) >= 43
    answer = await come_back(browser, mock.authorize(url, "1"))
    assert (answer.status, answer.location) == (303, "/v2/")
    assert await browser.who() == "alice"
    assert await may_read(browser)


async def test_a_nonce_that_was_changed_on_the_way(site: Site, mock: OidcMock) -> None:
    browser = Browser(site)
    url = change(await begin(browser), nonce="another")
    assert "does not hold" in await refused(browser, await come_back(browser, mock.authorize(url, "2")))


async def test_a_state_that_was_changed_on_the_way(site: Site, mock: OidcMock) -> None:
    browser = Browser(site)
    url = change(await begin(browser), state="another")
    assert "did not begin" in await refused(browser, await come_back(browser, mock.authorize(url, "2")))


async def test_a_code_of_another_sign_in(site: Site, mock: OidcMock) -> None:
    """Somebody puts a code that they have got into the sign-in of another browser."""
    mock.set_user("3", preferred_username="mallory")
    theirs = mock.authorize(await begin(Browser(site)), "3")
    code = parse_qs(urlsplit(theirs).query)["code"][0]
    browser = Browser(site)
    mine = mock.authorize(await begin(browser), "2")
    assert "does not hold" in await refused(browser, await come_back(browser, change(mine, code=code)))


async def test_a_code_for_another_client(site: Site, mock: OidcMock) -> None:
    browser = Browser(site)
    url = change(await begin(browser), client_id="another")
    assert "or refuses" in await refused(browser, await come_back(browser, mock.authorize(url, "2")))


async def test_a_name_that_is_taken(site: Site, mock: OidcMock) -> None:
    await People(site).add("bob")
    mock.set_user("4", preferred_username="bob", email="bob@example.org")
    browser = Browser(site)
    text = await refused(browser, await sign_in(browser, mock, "4"))
    assert "bob is the name of a person here already" in text
    assert f"--issuer {mock.url} --subject 4" in text


@pytest.mark.parametrize(
    "claims",
    [
        {}, {"preferred_username": ""}, {"preferred_username": None}, {"preferred_username": 7},
        {"preferred_username": ["alice"]}, {"preferred_username": "../etc"}, {"preferred_username": "a" * 5000},
        {"preferred_username": "<script>alert(1)</script>"}, {"preferred_username": "carol", "groups": "dev"},
        {"preferred_username": "carol", "groups": {"dev": True}},
        {"preferred_username": "carol", "groups": [f"g{number}" for number in range(501)]},
    ],
)  # fmt: skip
async def test_odd_claims_make_nobody(site: Site, mock: OidcMock, claims: dict[str, Any]) -> None:
    mock.set_user("5", **claims)
    browser = Browser(site)
    text = await refused(browser, await sign_in(browser, mock, "5"))
    assert "does not hold" in text or "an administrator can connect an account" in text
    assert "<script>" not in text
    assert await People(site).accounts.list_all() == []


async def test_odd_claims_that_do_not_matter(site: Site, mock: OidcMock) -> None:
    odd = {"dev": 1, "aud": "another", "exp": 1, "iss": "https://evil.example", "nonce": "x", "admin": True}
    mock.set_user("6", preferred_username="dora", groups=["dev", 7, None, ["admin"], "", "x" * 5000], more=odd)
    browser = Browser(site)
    assert (await sign_in(browser, mock, "6")).status == 303
    assert await browser.who() == "dora"
    assert await may_read(browser)


async def test_a_subject_that_is_too_long(site: Site, mock: OidcMock) -> None:
    mock.set_user("7" * 300, preferred_username="eve")
    browser = Browser(site)
    assert "does not hold" in await refused(browser, await sign_in(browser, mock, "7" * 300))


async def test_userinfo_says_who_is_in_which_groups_at_a_refresh(site: Site, mock: OidcMock) -> None:
    mock.set_user("8", preferred_username="fred", groups=["dev"])
    browser = Browser(site)
    await sign_in(browser, mock, "8")
    mock.set_user("8", preferred_username="renamed", groups=[])
    assert await may_read(browser)
    await age(site, ELEVEN_MINUTES)
    assert not await may_read(browser)
    assert await browser.who() == "fred"
    mock.set_user("8", groups=["dev"])
    await age(site, ELEVEN_MINUTES)
    assert await may_read(browser)
    mock.set_user("8", groups="all of them")
    await age(site, ELEVEN_MINUTES)
    assert not await may_read(browser)
    assert await browser.who() == 401


async def test_tokens_that_the_provider_has_revoked_end_the_session(site: Site, mock: OidcMock) -> None:
    mock.set_user("9", preferred_username="gina", groups=["dev"])
    browser = Browser(site)
    await sign_in(browser, mock, "9")
    mock.revoke_tokens("9")
    await age(site, ELEVEN_MINUTES)
    assert not await may_read(browser)
    assert await browser.who() == 401


async def test_a_provider_that_goes_away_and_comes_back_with_another_key(site: Site, mock: OidcMock) -> None:
    mock.set_user("10", preferred_username="hugo", groups=["dev"])
    browser = Browser(site)
    await sign_in(browser, mock, "10")
    mock.kill()
    await age(site, ELEVEN_MINUTES)
    assert await may_read(browser), "its word of before is good for an hour"
    new = Browser(site)
    back = change(await begin(new), code="x", state="y")
    assert back.startswith(mock.url), "what it said of itself is known for a while"
    mock.start()
    mock.set_user("10", preferred_username="hugo", groups=["dev"])
    assert (await sign_in(new, mock, "10")).status == 303
    assert await may_read(new)
    assert not await may_read(browser), "nobody there knows its refresh token any more"
