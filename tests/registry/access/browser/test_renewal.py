"""A provider is asked again who somebody is while their browser is signed in: groups and people that are gone there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select, update

from auth.accounts.bindings import Holder
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.sign_in import renewal
from auth.sign_in.settings import SignInSettings
from registry.access.browser import sessions as remembered
from registry.http.settings import HttpSettings
from storage.database.account_tables import browser_session
from tests.support.registry.access import CLOSED
from tests.support.registry.audited import read_stored
from tests.support.registry.browser import Browser, age, data_of, grant
from tests.support.registry.people import BY, People
from tests.support.registry.serving import ROOT, Site, serving
from tests.support.servers import odd_answers
from tests.support.servers.issuer import Issuer

PUBLIC = "https://registry.example.org"
SESSION = "__Host-condery-session"
TEAM = "/v2/team/app/tags/list"
MINUTE = 60.0


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of these tests is looked up anew, and a provider that was down is asked again at once."""
    monkeypatch.setattr(remembered, "REMEMBER_SECONDS", 0.0)
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Site]:
    elsewhere = SignInSettings(oidc_issuer=issuer.url, oidc_client_id="condery", oidc_groups_claim="groups")
    async with serving(tmp_path, HttpSettings(public_url=PUBLIC), sign_in=CLOSED, elsewhere=elsewhere) as running:
        await Groups(data_of(running), Names(ROOT)).add("dev", by=BY)
        await People(running).bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
        yield running


async def sign_in(site: Site, issuer: Issuer, refresh: str = "first") -> Browser:
    """A browser of alice, who is in the group dev."""
    browser = Browser(site)
    asked = await browser.begin()
    grant(issuer, asked, groups=["dev"])
    if refresh:
        issuer.granted["good"]["refresh_token"] = refresh
    assert (await browser.come_back(asked)).status == 303
    assert await may_read(browser)
    return browser


async def may_read(browser: Browser) -> bool:
    """Whether alice may read what her group may; it is empty."""
    status = (await browser.ask("GET", TEAM)).status
    assert status in (401, 403, 404)
    return status == 404


def answer(issuer: Issuer, token: str, following: str = "", **claims: Any) -> None:
    """What the provider says when it is asked again with `token`."""
    usual = {"aud": "condery", "sub": "1", "preferred_username": "alice", "groups": []}
    tokens = {"id_token": issuer.token(**{**usual, **claims}), "access_token": "access"}
    issuer.granted[token] = tokens | ({"refresh_token": following} if following else {})


async def stored(site: Site) -> list[Any]:
    async with site.workshop.store.database.reading() as connection:
        return list(await connection.execute(select(browser_session)))


def refreshes(issuer: Issuer) -> list[str]:
    return [form["refresh_token"] for form in issuer.forms if form["grant_type"] == "refresh_token"]


async def test_ghsa_c9p4_xwr9_rfhx_a_group_is_gone_at_the_refresh(site: Site, issuer: Issuer) -> None:
    """zot: groups that are gone at the provider stay."""
    browser = await sign_in(site, issuer)
    answer(issuer, "first", "second")
    assert await may_read(browser)
    assert refreshes(issuer) == [], "it was asked a moment ago"
    await age(site, 11 * MINUTE)
    assert not await may_read(browser)
    assert await browser.who() == "alice"
    assert refreshes(issuer) == ["first"]
    # and it comes back with the next token
    answer(issuer, "second", groups=["dev", "others"])
    await age(site, 11 * MINUTE)
    assert await may_read(browser)
    # a provider that gives no other takes the same again
    answer(issuer, "second", groups=["dev"])
    await age(site, 11 * MINUTE)
    assert await may_read(browser)
    assert refreshes(issuer) == ["first", "second", "second"]


async def test_who_may_not_sign_in_there_any_more_is_signed_out(site: Site, issuer: Issuer) -> None:
    browser = await sign_in(site, issuer)
    await age(site, 11 * MINUTE)
    assert not await may_read(browser), "the provider does not know the token"
    assert await browser.who() == 401
    assert await stored(site) == []


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "2"}, {"sub": None}, {"aud": "another"}, {"iss": "https://evil.example"}, {"exp": 1},
        {"azp": "another"}, {"groups": "dev"}, {"groups": [f"g{number}" for number in range(501)]},
    ],
)  # fmt: skip
async def test_answers_that_do_not_hold_end_the_session(site: Site, issuer: Issuer, claims: dict[str, Any]) -> None:
    browser = await sign_in(site, issuer)
    answer(issuer, "first", "second", **claims)
    await age(site, 11 * MINUTE)
    assert not await may_read(browser)
    assert await stored(site) == []
    assert [each.name for each in await People(site).accounts.list_all()] == ["alice"]


async def test_who_somebody_is_may_be_said_when_asked_alone(site: Site, issuer: Issuer) -> None:
    browser = await sign_in(site, issuer)
    issuer.granted["first"] = {"access_token": "access", "refresh_token": "second"}
    issuer.person = {"sub": "1", "groups": ["dev"]}
    await age(site, 11 * MINUTE)
    assert await may_read(browser)
    issuer.granted["second"] = {"access_token": "access"}
    issuer.person = {"sub": "2", "groups": ["dev"]}
    await age(site, 11 * MINUTE)
    assert not await may_read(browser), "that is somebody else"


async def test_a_provider_that_is_down_is_believed_for_an_hour(site: Site, issuer: Issuer) -> None:
    browser = await sign_in(site, issuer)
    issuer.down = True
    await age(site, 11 * MINUTE)
    assert await may_read(browser)
    await age(site, 50 * MINUTE)
    assert not await may_read(browser)
    assert await browser.who() == 401
    issuer.down = False
    answer(issuer, "first", "second", groups=["dev"])
    assert await may_read(browser), "the token is as good as before"
    assert set(refreshes(issuer)) == {"first"}


@dataclass
class TokenEndpoint:
    """Of a provider that has nothing good to say of alice, and says what bob's groups are."""

    issuer: Issuer
    of_alice: odd_answers.Answer
    asked: list[str] = field(default_factory=list)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        token = str((await request.post())["refresh_token"])
        self.asked.append(token)
        if token == "first":
            return await self.of_alice(request)
        claims = {"aud": "condery", "sub": "2", "preferred_username": "bob", "groups": []}
        return web.json_response({"id_token": self.issuer.token(**claims), "access_token": "access"})


def huge(_: web.Request) -> Awaitable[web.StreamResponse]:
    return odd_answers.saying(b'"' + b"x" * (2 << 20) + b'"', 200)(_)


ABOUT_ALICE = {
    "403": odd_answers.saying(b'{"error": "invalid_grant"}', 403),
    "401 without a word": odd_answers.saying(b"", 401),
    "404": odd_answers.saying(b"<html>", 404),
    "no JSON": odd_answers.saying(b"{", 200),
    "a huge answer": huge,
    "no token": odd_answers.saying(b"{}", 200),
}


@pytest.mark.parametrize("kind", list(ABOUT_ALICE))
async def test_what_a_provider_says_of_one_keeps_it_from_telling_of_no_other(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 3600.0)
    alice, bob = await sign_in(site, issuer), Browser(site)
    asked = await bob.begin()
    grant(issuer, asked, groups=["dev"], sub="2", preferred_username="bob")
    issuer.granted["good"]["refresh_token"] = "bobs"
    assert (await bob.come_back(asked)).status == 303
    endpoint = issuer.odd["/token"] = TokenEndpoint(issuer, ABOUT_ALICE[kind])
    await age(site, 11 * MINUTE)
    for _ in range(2):
        await may_read(alice)
    assert not await may_read(bob), "his group is gone there"
    assert endpoint.asked == ["first", "bobs"], "about alice it is not asked again at once"


async def test_a_provider_that_is_down_is_not_asked_about_everybody(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 3600.0)
    browsers = [await sign_in(site, issuer, f"token {number}") for number in range(3)]
    issuer.down = True
    await age(site, 11 * MINUTE)
    for browser in browsers:
        assert await may_read(browser)
    assert refreshes(issuer) == ["token 0"]


async def test_a_session_that_its_provider_ends_is_told(site: Site, issuer: Issuer) -> None:
    browser = await sign_in(site, issuer)
    await age(site, 11 * MINUTE)
    await asyncio.gather(*(may_read(Browser(site, dict(browser.cookies))) for _ in range(5)))
    (event,) = (await read_stored(site, action="session.end")).events
    assert (event.principal, event.entity, event.client) == ("alice", "alice", "127.0.0.1")
    assert event.detail["issuer"] == issuer.url
    assert "400 invalid_grant" in event.detail["reason"]


async def test_without_a_refresh_token_one_signs_in_again_after_an_hour(site: Site, issuer: Issuer) -> None:
    browser = await sign_in(site, issuer, "")
    await age(site, 59 * MINUTE)
    assert await may_read(browser)
    await age(site, 2 * MINUTE)
    assert await browser.who() == 401
    assert refreshes(issuer) == []


@pytest.mark.parametrize("odd", [7, ["x"], "é", "a\nb", "x" * 10_000])
async def test_refresh_tokens_that_cannot_be_sent_are_none(site: Site, issuer: Issuer, odd: Any) -> None:
    await sign_in(site, issuer, odd)
    assert [each.refresh for each in await stored(site)] == [None]


async def test_one_asks_for_all(site: Site, issuer: Issuer) -> None:
    """Most providers take a refresh token once, and one that is shown twice for stolen."""
    browser = await sign_in(site, issuer)
    answer(issuer, "first", "second", groups=["dev"])
    await age(site, 11 * MINUTE)
    assert all(await asyncio.gather(*(may_read(Browser(site, dict(browser.cookies))) for _ in range(12))))
    assert refreshes(issuer) == ["first"]


async def test_one_process_asks_for_all(tmp_path: Path, issuer: Issuer) -> None:
    elsewhere = SignInSettings(oidc_issuer=issuer.url, oidc_client_id="condery", oidc_groups_claim="groups")
    settings: dict[str, Any] = {"sign_in": CLOSED, "elsewhere": elsewhere}
    http = HttpSettings(public_url=PUBLIC)
    async with serving(tmp_path, http, **settings) as one, serving(tmp_path, http, **settings) as two:
        await Groups(data_of(one), Names(ROOT)).add("dev", by=BY)
        await People(one).bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
        browser = await sign_in(one, issuer)
        answer(issuer, "first", "second", groups=["dev"])
        await age(one, 11 * MINUTE)
        browsers = [Browser(each, dict(browser.cookies)) for each in (one, two) * 4]
        assert all(await asyncio.gather(*map(may_read, browsers)))
        assert refreshes(issuer) == ["first"]


async def test_only_the_browser_has_the_key_of_its_refresh_token(site: Site, issuer: Issuer) -> None:
    one = await sign_in(site, issuer, "the provider's secret")
    (row,) = await stored(site)
    assert "secret" not in row.refresh
    assert "secret" not in site.log.getvalue()
    # that of another session is of no use
    two = await sign_in(site, issuer, "another secret")
    async with data_of(site).database.writing() as connection:
        await connection.execute(update(browser_session).values(refresh=row.refresh))
    await age(site, 11 * MINUTE)
    answer(issuer, "the provider's secret", "next", groups=["dev"])
    await may_read(two)
    assert refreshes(issuer) == []
    assert await may_read(one)
    assert refreshes(issuer) == ["the provider's secret"]


async def test_an_account_that_is_disabled_or_disconnected_is_not_asked_about(site: Site, issuer: Issuer) -> None:
    browser = await sign_in(site, issuer)
    answer(issuer, "first", "second", groups=["dev"])
    await age(site, 11 * MINUTE)
    await People(site).accounts.disable("alice", by=BY)
    assert await browser.who() == 401
    assert refreshes(issuer) == []
