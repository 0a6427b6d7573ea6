"""What a provider can do to a server that asks it, and what an issuer of workloads' tokens can."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from auth.sign_in import issuer_keys, provider, renewal
from auth.sign_in.settings import SignInSettings
from auth.sign_in.workload_settings import WorkloadSettings
from registry.access.browser import sessions as remembered
from registry.http.settings import HttpSettings
from storage import strict_json
from tests.support.registry.access import CLOSED
from tests.support.registry.browser import PROVIDER, Answer, Browser, age, grant
from tests.support.registry.people import People, bearer
from tests.support.registry.serving import Site, serving
from tests.support.servers import odd_answers
from tests.support.servers.issuer import Issuer
from tests.support.servers.odd_answers import BROKEN, ENDLESS, saying

PUBLIC = "https://registry.example.org"
SESSION = "__Host-condery-session"
PLACES = {
    "discovery": "/.well-known/openid-configuration",
    "keys": "/keys",
    "token": "/token",
    "userinfo": "/userinfo",
}
ELEVEN_MINUTES = 660.0


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


@pytest.fixture(autouse=True)
def again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (provider, issuer_keys):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(remembered, "REMEMBER_SECONDS", 0.0)


@pytest.fixture
async def site(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Site]:
    elsewhere = SignInSettings(oidc_issuer=issuer.url, oidc_client_id="condery", oidc_groups_claim="groups")
    workload = WorkloadSettings(
        workload_issuers=(issuer.url,), workload_audience=PUBLIC, workload_rules=('sub == "ci" -> viewer on team/*',)
    )
    http = HttpSettings(public_url=PUBLIC)
    async with serving(tmp_path, http, sign_in=CLOSED, elsewhere=elsewhere, workload=workload) as running:
        yield running


async def sign_in(browser: Browser, issuer: Issuer) -> Answer:
    """The last answer of a sign-in, whose userinfo endpoint is needed, too."""
    begun = await browser.ask("GET", PROVIDER)
    if begun.status != 303:
        return begun
    asked = await browser.begin()
    claims = issuer.claims(aud="condery", sub="1", nonce=asked["nonce"])
    issuer.granted["good"] = {"id_token": issuer.sign(claims), "access_token": "access", "refresh_token": "first"}
    return await browser.come_back(asked)


async def refuse(site: Site, issuer: Issuer, kind: str) -> str:
    """What somebody is told who signs in: which provider it is, and what to do."""
    browser = Browser(site)
    answer = await sign_in(browser, issuer)
    assert answer.status == 403, (kind, answer.text)
    assert issuer.url in answer.text, kind
    assert "again" in answer.text, kind
    assert "/login" in answer.text, kind
    assert SESSION not in browser.cookies
    return answer.text


@pytest.mark.parametrize("place", list(PLACES))
async def test_answers_that_are_none(site: Site, issuer: Issuer, place: str) -> None:
    bob = await People(site).add("bob")
    for kind, answer in BROKEN.items():
        issuer.odd[PLACES[place]] = answer
        await refuse(site, issuer, kind)
        assert await Browser(site).who(bob.headers) == "bob", kind
    # the system's buffers hold some more than was read
    assert 0 < odd_answers.poured < 50 << 20
    del issuer.odd[PLACES[place]]
    issuer.person = {"sub": "1", "preferred_username": "alice", "groups": []}
    assert (await sign_in(Browser(site), issuer)).status == 303, "it may be mended at any time"


@pytest.mark.parametrize("place", list(PLACES))
async def test_answers_without_an_end(site: Site, issuer: Issuer, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "EXCHANGE_SECONDS", 0.3)
    for kind, answer in ENDLESS.items():
        issuer.odd[PLACES[place]] = answer
        await refuse(site, issuer, kind)


@pytest.mark.parametrize("place", list(PLACES))
async def test_ssrf_a_redirect_leads_nowhere(site: Site, issuer: Issuer, place: str) -> None:
    asked = []

    async def note(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers)
        return web.json_response({})

    async with Issuer() as other:
        other.odd["/there"] = issuer.odd["/there"] = note
        for status in (301, 302, 303, 307, 308):
            for to in (other.url, issuer.url):
                issuer.odd[PLACES[place]] = saying(b"{}", status, Location=f"{to}/there")
                await refuse(site, issuer, str(status))
    assert asked == []


NO_ADDRESSES: Sequence[Any] = [
    "", None, 7, ["https://a"], "x", "//evil.example", "javascript:alert(1)", "https://", "file:///etc/passwd",
    "https://a.example/\r\nSet-Cookie: a=b", "https://a.example/ b", "https://a.example/é", "https://a.example/#x",
    "https://a.example\\@evil.example/", "https://a.example/" + "a" * 3000, 'https://a.example/"',
]  # fmt: skip


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
async def test_addresses_that_are_none(site: Site, issuer: Issuer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "FRESH_SECONDS", 0.0)
    for address in NO_ADDRESSES:
        issuer.discovery = {name: address}
        await refuse(site, issuer, str(address))


@pytest.mark.parametrize("place", ["token", "userinfo"])
async def test_what_may_be_large_is_read_beside_the_requests_of_others(
    site: Site, issuer: Issuer, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, threads = strict_json.parse, []

    def note(data: bytes, **options: int) -> object:
        if len(data) > 500_000:
            threads.append(threading.current_thread())
        return parse(data, **options)

    monkeypatch.setattr(strict_json, "parse", note)
    issuer.odd[PLACES[place]] = saying(b'{"a":[' + b'"",' * 200_000 + b'""]}')
    await refuse(site, issuer, place)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def refused_with(status: int, code: str) -> odd_answers.Answer:
    return saying(b'{"error":"%s"}' % code.encode(), status)


@pytest.mark.parametrize(
    ("status", "code", "ends"),
    [
        (400, "invalid_grant", True),
        (403, "invalid_grant", True),
        (401, "invalid_grant", True),
        (400, "interaction_required", True),
        (403, "interaction_required", True),
        (401, "unauthorized", True),
        (403, "access_denied", True),
        (404, "access_denied", True),
        (429, "invalid_grant", True),
        (404, "not_found", False),
        (403, "<b>", False),
        (401, "", False),
        (400, "temporarily_unavailable", False),
        (403, "server_error", False),
        (400, "<b>", True),
        (400, "invalid_client", False),
        (401, "invalid_client", False),
        (400, "unauthorized_client", False),
        (429, "slow_down", False),
        (503, "invalid_grant", False),
        (500, "server_error", False),
    ],
)
async def test_refusals_that_are_about_the_person(
    site: Site, issuer: Issuer, status: int, code: str, ends: bool
) -> None:
    """A client whose secret has expired is none of the person's business."""
    browser = Browser(site)
    asked = await browser.begin()
    grant(issuer, asked)
    issuer.granted["good"]["refresh_token"] = "first"
    assert (await browser.come_back(asked)).status == 303
    issuer.odd[PLACES["token"]] = refused_with(status, code)
    await age(site, ELEVEN_MINUTES)
    assert await browser.who() == (401 if ends else "alice")


async def test_the_log_says_why_the_provider_refuses(
    site: Site, issuer: Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer.odd[PLACES["token"]] = refused_with(401, "invalid_client")
    text = await refuse(site, issuer, "a client that is refused")
    assert "invalid_client" not in text
    assert f"{issuer.url}/token answers 401 (invalid_client)" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["discovery", "keys"])
async def test_an_issuer_of_workloads(site: Site, issuer: Issuer, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "FETCH_SECONDS", 0.5)
    for kind, odd in {**BROKEN, **ENDLESS}.items():
        issuer.odd[PLACES[place]] = odd
        answer = await Browser(site).ask("GET", "/v2/team/app/tags/list", bearer(issuer.token(sub="ci")))
        assert (answer.status, answer.headers["Retry-After"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "10"), kind
        assert issuer.url in answer.text
        assert (await Browser(site).ask("GET", "/healthz")).status == 200
