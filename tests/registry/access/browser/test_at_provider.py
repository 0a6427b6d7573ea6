"""People who sign in with a browser at a provider: what they get, and what others can do to them on the way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from auth.accounts.bindings import Holder
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.changing import AccessData
from auth.settings import AccessSettings
from auth.sign_in import provider
from auth.sign_in.errors import FetchFailed, SignInFailed
from auth.sign_in.pending import PendingSignIns
from auth.sign_in.settings import SignInSettings
from registry.access.browser.form import local_page
from registry.http.settings import HttpSettings
from storage.database.account_tables import browser_session, sign_in
from tests.support.registry.browser import PROVIDER, Answer, Browser, grant
from tests.support.registry.people import BY, People, bearer
from tests.support.registry.serving import ROOT, Site, serving
from tests.support.servers.issuer import Issuer

PUBLIC = "https://registry.example.org"
SESSION, LOGIN = "__Host-condery-session", "__Host-condery-login"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


@contextlib.asynccontextmanager
async def opened(directory: Path, issuer: Issuer, public: str = PUBLIC, **settings: Any) -> AsyncIterator[Site]:
    elsewhere = SignInSettings(oidc_issuer=issuer.url, oidc_client_id="condery", oidc_groups_claim="groups", **settings)
    closed = AccessSettings(anonymous_bindings=("none",))
    async with serving(directory, HttpSettings(public_url=public), sign_in=closed, elsewhere=elsewhere) as site:
        yield site


@pytest.fixture
async def site(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Site]:
    async with opened(tmp_path, issuer) as running:
        yield running


async def rows(site: Site, table: Any) -> list[Any]:
    async with site.workshop.store.database.reading() as connection:
        return list(await connection.execute(select(table)))


async def test_a_person_signs_in_and_out(site: Site, issuer: Issuer) -> None:
    browser = Browser(site)
    assert await browser.who() == 401
    asked = await browser.begin(f"{PROVIDER}?next=/v2/alice/")
    assert asked["redirect_uri"] == f"{PUBLIC}/login/callback"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"] == "openid profile"
    grant(issuer, asked)
    answer = await browser.come_back(asked, iss=issuer.url)
    assert (answer.status, answer.location) == (303, "/v2/alice/")
    assert LOGIN not in browser.cookies
    assert await browser.who() == "alice"
    (form,) = issuer.forms
    assert (await People(site).accounts.find("alice")).signed_in
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
    kept = dict(browser.cookies)
    answer = await browser.ask("POST", "/logout", {"Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"})
    assert (answer.status, answer.location, browser.cookies) == (303, "/", {})
    assert await Browser(site, kept).who() == 401, "the session is gone, and not only the cookie"


async def test_cve_2024_28233_cookies_are_for_this_host_and_hidden(site: Site, issuer: Issuer) -> None:
    browser = Browser(site)
    begun = (await browser.ask("GET", PROVIDER)).set_cookies
    asked = await browser.begin()
    grant(issuer, asked)
    for each in (*begun, *(await browser.come_back(asked)).set_cookies):
        assert each.startswith("__Host-")
        assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} <= set(each.split("; "))
        assert "Domain" not in each
    # only hashes are stored
    stored = repr([*await rows(site, browser_session), *await rows(site, sign_in)])
    assert "id-of" not in stored
    assert not any(value in stored for value in browser.cookies.values())


async def test_without_https_cookies_have_another_name(tmp_path: Path, issuer: Issuer) -> None:
    async with opened(tmp_path, issuer, "http://localhost:5000") as site:
        browser = Browser(site)
        assert (await browser.sign_in(issuer)).status == 303
        assert list(browser.cookies) == ["condery-session"]
        assert await browser.who() == "alice"
        # one that is not bound to the host does not count where there is https
        assert await Browser(site, {SESSION: browser.cookies["condery-session"]}).who() == 401


@pytest.mark.parametrize(
    "page",
    [
        "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example",
        "https:evil.example", "javascript:alert(1)", "evil", "", "/a\\b", "/a\nb", "/\t/evil.example", "/é",
        "/" + "a" * 3000,
    ],
)  # fmt: skip
def test_the_next_page_is_one_of_ours(page: str) -> None:
    assert local_page(page, None) == "/"
    assert local_page(page, "https://registry.example.org") == "/"


@pytest.mark.parametrize("page", ["/", "/v2/", "/a?b=c&d=https://x", "/a//b", "/~x"])
def test_pages_of_ours(page: str) -> None:
    assert local_page(page, None) == page
    assert local_page(f"https://registry.example.org{page}", "https://registry.example.org") == page


async def test_open_redirect_a_sign_in_leads_to_pages_of_ours(site: Site, issuer: Issuer) -> None:
    assert (await Browser(site).sign_in(issuer, f"{PROVIDER}?next=//evil.example")).location == "/"


async def refused(browser: Browser, answer: Answer) -> str:
    assert answer.status == 403, answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    assert SESSION not in browser.cookies
    assert await browser.who() == 401
    return answer.text


async def test_a_sign_in_that_began_in_another_browser(site: Site, issuer: Issuer) -> None:
    attacker, victim = Browser(site), Browser(site)
    asked = await attacker.begin()
    grant(issuer, asked, preferred_username="mallory")
    assert "did not begin in this browser" in await refused(victim, await victim.come_back(asked))
    await victim.begin()
    assert "did not begin in this browser" in await refused(victim, await victim.come_back(asked))
    assert issuer.forms == []


async def test_a_state_holds_once(site: Site, issuer: Issuer) -> None:
    browser = Browser(site)
    asked = await browser.begin()
    kept = dict(browser.cookies)
    grant(issuer, asked)
    assert (await browser.come_back(asked)).status == 303
    again = Browser(site, kept)
    grant(issuer, asked)
    assert "finished before" in await refused(again, await again.come_back(asked))
    both = Browser(site)
    asked = await both.begin()
    grant(issuer, asked)
    kept = dict(both.cookies)
    answers = await asyncio.gather(*(Browser(site, dict(kept)).come_back(asked) for _ in range(5)))
    assert sorted(each.status for each in answers) == [303, 403, 403, 403, 403]


@pytest.mark.parametrize("fields", [{"state": ""}, {"state": "x"}, {"state": "%C3%A9"}])
async def test_states_that_were_made_up(site: Site, fields: dict[str, str]) -> None:
    browser = Browser(site)
    await browser.begin()
    answer = await browser.ask("GET", f"/login/callback?code=good&state={fields['state']}")
    await refused(browser, answer)
    await refused(browser, await browser.ask("GET", "/login/callback"))
    await refused(browser, await browser.ask("GET", "/login/callback?state=a&state=b&code=good"))


async def test_the_answer_of_another_provider(site: Site, issuer: Issuer) -> None:
    browser = Browser(site)
    asked = await browser.begin()
    grant(issuer, asked)
    assert "another provider" in await refused(browser, await browser.come_back(asked, iss="https://evil.example"))
    assert issuer.forms == []


async def test_a_provider_that_names_itself_has_to(site: Site, issuer: Issuer) -> None:
    """RFC 9207, section 2.4: where it announces that it does, an answer without a name may be another's."""
    issuer.discovery["authorization_response_iss_parameter_supported"] = True
    browser = Browser(site)
    asked = await browser.begin()
    grant(issuer, asked)
    assert "another provider" in await refused(browser, await browser.come_back(asked))
    assert issuer.forms == []
    asked = await browser.begin()
    grant(issuer, asked)
    assert (await browser.come_back(asked, iss=issuer.url)).status == 303


async def test_a_sign_in_that_began_at_another_provider_ends(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings, or another process of a roll-out, name another one meanwhile: its code is shown to nobody else."""
    browser = Browser(site)
    begin = PendingSignIns.begin

    async def at_another(pending: PendingSignIns, document: dict[str, object], *args: str) -> str:
        return await begin(pending, {**document, "issuer": "https://before.example.org"}, *args)

    monkeypatch.setattr(PendingSignIns, "begin", at_another)
    asked = await browser.begin()
    grant(issuer, asked)
    assert "another provider since" in await refused(browser, await browser.come_back(asked))
    assert issuer.forms == []


async def test_what_the_provider_says_is_text(site: Site) -> None:
    browser = Browser(site)
    text = await refused(browser, await browser.come_back(await browser.begin(), error="%3Cscript%3Ealert(1)"))
    assert "<script" not in text


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"}, {"nonce": None}, {"nonce": 7}, {"aud": "another"}, {"aud": ["condery", "another"]},
        {"azp": "another"}, {"iss": "https://evil.example"}, {"exp": 1}, {"sub": None}, {"sub": ""},
        {"groups": "admins"}, {"groups": {"admins": True}},
    ],
)  # fmt: skip
async def test_identity_tokens_that_do_not_hold(site: Site, issuer: Issuer, claims: dict[str, Any]) -> None:
    browser = Browser(site)
    assert "does not hold" in await refused(browser, await browser.sign_in(issuer, **claims))
    assert await People(site).accounts.list_all() == []


@pytest.mark.parametrize("tokens", [{}, {"id_token": None}, {"id_token": "e30.e30."}, {"id_token": ["x"]}])
async def test_answers_without_an_identity_token(site: Site, issuer: Issuer, tokens: dict[str, Any]) -> None:
    browser = Browser(site)
    asked = await browser.begin()
    issuer.granted["good"] = {"access_token": "x", **tokens}
    assert "does not hold" in await refused(browser, await browser.come_back(asked))


async def test_a_code_that_the_provider_does_not_know(site: Site) -> None:
    browser = Browser(site)
    assert "cannot be reached now, or refuses" in await refused(browser, await browser.come_back(await browser.begin()))


async def test_a_provider_that_is_down_stops_nobody_else(site: Site, issuer: Issuer) -> None:
    issuer.discovery = {"issuer": "https://evil.example"}
    browser = Browser(site)
    assert (await browser.ask("GET", PROVIDER)).status == 403
    bob = await People(site).add("bob")
    assert await browser.who(bob.headers) == "bob"


async def test_a_flood_of_sign_ins_is_none_for_the_provider(site: Site, issuer: Issuer) -> None:
    answers = await asyncio.gather(*(Browser(site).ask("GET", PROVIDER) for _ in range(30)))
    assert {each.status for each in answers} == {303}
    assert len(issuer.asked) == 1


async def test_a_provider_that_is_down_is_not_asked_for_each(site: Site, issuer: Issuer) -> None:
    issuer.discovery = {"issuer": "https://evil.example"}
    answers = await asyncio.gather(*(Browser(site).ask("GET", PROVIDER) for _ in range(30)))
    assert {each.status for each in answers} == {403}
    assert len(issuer.asked) == 1


async def test_each_refusal_of_a_provider_that_is_down_is_an_error_of_its_own(issuer: Issuer) -> None:
    """The traceback of one that is raised again would grow with each request."""

    class Down:
        async def fetch(self, url: str, authorization: str = "") -> bytes:
            raise FetchFailed(url, "is down")

        async def post(self, url: str, form: Mapping[str, str], authorization: str = "") -> bytes:
            raise FetchFailed(url, "is down")

    client = provider.Client("condery", "", f"{PUBLIC}/login/callback", ("openid",), "preferred_username", None)
    asked, causes = provider.Provider(issuer.url, client, Down()), []
    for _ in range(3):
        with pytest.raises(SignInFailed) as caught:
            await asked.begin("state", provider.make_secrets())
        causes.append(caught.value.__context__)
    assert [type(each) for each in causes] == [FetchFailed] * 3
    assert len(set(map(id, causes))) == 3
    assert {str(each).partition(" ")[2] for each in causes} == {"is down"}


async def test_cve_2022_31027_who_somebody_is_is_said_by_the_subject_alone(site: Site, issuer: Issuer) -> None:
    assert (await Browser(site).sign_in(issuer, email="a@example.org", email_verified=True)).status == 303
    renamed = Browser(site)
    await renamed.sign_in(issuer, preferred_username="alicia", email="other@example.org")
    assert await renamed.who() == "alice"
    other = Browser(site)
    text = await refused(other, await other.sign_in(issuer, sub="2", email="a@example.org", email_verified=True))
    assert "alice is the name of a person here already" in text
    await People(site).add("dave")
    assert "dave is the name" in await refused(other, await other.sign_in(issuer, sub="3", preferred_username="dave"))


async def test_a_name_that_is_said_only_when_asked(site: Site, issuer: Issuer) -> None:
    browser = Browser(site)
    issuer.person = {"sub": "2", "preferred_username": "carol", "groups": []}
    assert "does not hold" in await refused(
        browser, await browser.sign_in(issuer, preferred_username=None, groups=None)
    )
    asked = await browser.begin()
    claims = issuer.claims(aud="condery", sub="2", nonce=asked["nonce"])
    issuer.granted["good"] = {"id_token": issuer.sign(claims), "access_token": "access"}
    assert (await browser.come_back(asked)).status == 303
    assert await browser.who() == "carol"
    asked = await browser.begin()
    issuer.granted["good"] = {
        "id_token": issuer.sign({**claims, "sub": "3", "nonce": asked["nonce"]}),
        "access_token": "a",
    }
    assert (await browser.come_back(asked)).status == 403, "it tells of somebody else"


async def test_cve_2026_40934_a_session_ends_with_the_account_and_its_password(site: Site, issuer: Issuer) -> None:
    people, browser = People(site), Browser(site)
    await browser.sign_in(issuer)
    assert await browser.who() == "alice"
    await people.accounts.disable("alice", by=BY)
    assert await browser.who() == 401
    assert "disabled" in await refused(Browser(site), await Browser(site).sign_in(issuer))
    await people.accounts.enable("alice", by=BY)
    assert await browser.who() == 401
    await browser.sign_in(issuer)
    await people.accounts.set_password("alice", "correct horse battery", by=BY)
    assert await browser.who() == 401
    await browser.sign_in(issuer)
    await people.accounts.sign_out("alice", by=BY)
    assert await browser.who() == 401


async def test_ghsa_c9p4_xwr9_rfhx_a_group_that_is_gone_takes_all_rights_with_it(site: Site, issuer: Issuer) -> None:
    """Zot: removed groups stayed. They are gone at the next sign-in, also from what was given before."""
    people, store = People(site), site.workshop.store
    await Groups(AccessData(store.database, store.changes), Names(ROOT)).add("dev", by=BY)
    await people.bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
    browser, path = Browser(site), "/v2/team/app/tags/list"
    await browser.sign_in(issuer, groups=["dev"])
    principal = await people.load((await people.accounts.find("alice")).id)
    made = await site.access.tokens.access.make(principal, "before", None, by=BY)

    async def ask_token(method: str, query: str = "", **options: Any) -> dict[str, Any]:
        async with site.request(method, f"/token{query}", **options) as response:
            assert response.status == 200
            found: dict[str, Any] = json.loads(await response.read())
            return found

    query = "?scope=repository:team/app:pull&offline_token=true"
    given = await ask_token("GET", query, headers=bearer(made.text))
    assert (await browser.ask("GET", path)).status == 404, "nothing is there, which only who may read is told"
    assert given["scope"] == "repository:team/app:pull"
    await Browser(site).sign_in(issuer, groups=[])
    assert (await browser.ask("GET", path)).status == 403
    for text in (made.text, given["token"]):
        assert (await Browser(site).ask("GET", path, bearer(text))).status == 403
    form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"], "scope": given["scope"]}
    assert (await ask_token("POST", data=form))["scope"] == ""


async def test_session_fixation_a_session_is_new_at_each_sign_in(site: Site, issuer: Issuer) -> None:
    browser = Browser(site, {SESSION: "prepared"})
    assert await browser.who() == 401
    await browser.sign_in(issuer)
    first = browser.cookies[SESSION]
    assert first != "prepared"
    await browser.sign_in(issuer)
    assert browser.cookies[SESSION] != first


async def test_two_cookies_of_one_name_are_nobodys(site: Site, issuer: Issuer) -> None:
    browser = Browser(site)
    await browser.sign_in(issuer)
    text = f"{SESSION}={browser.cookies[SESSION]}; {SESSION}=other"
    assert await Browser(site).who({"Cookie": text}) == 401


@pytest.mark.parametrize("space", ["\u2000", "\u3000", "\xa0", "\x85"], ids=lambda each: f"U+{ord(each):04X}")
async def test_a_name_with_another_space_is_no_cookie_of_ours(site: Site, issuer: Issuer, space: str) -> None:
    """A browser lets another host of the domain set it, since it does not begin with `__Host-`."""
    browser = Browser(site)
    await browser.sign_in(issuer)
    value = browser.cookies[SESSION]
    assert await Browser(site).who({"Cookie": f"{space}{SESSION}={value}"}) == 401
    assert await Browser(site).who({"Cookie": f"{SESSION}{space}={value}"}) == 401
    # nor does it make two of one
    assert await Browser(site).who({"Cookie": f"{space}{SESSION}=planted; \t{SESSION}={value}"}) != 401


@pytest.mark.parametrize("site_of_page", ["cross-site", "same-site", ""])
async def test_a_page_of_another_site_acts_for_nobody(site: Site, issuer: Issuer, site_of_page: str) -> None:
    browser = Browser(site)
    await browser.sign_in(issuer)
    for mode, destination in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")):
        sent = {"Sec-Fetch-Site": site_of_page, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
        assert await browser.who(sent) == 401
        for method, path in (("POST", "/logout"), ("POST", "/api/v1/token/"), ("POST", "/v2/alice/app/blobs/uploads/")):
            assert (await browser.ask(method, path, sent)).status in (401, 403)
    going = {"Sec-Fetch-Site": site_of_page, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert await browser.who(going) == "alice"
    for origin in ("https://evil.example", "null", f"{PUBLIC}.evil.example"):
        assert (await browser.ask("POST", "/logout", {"Origin": origin})).status == 403
    assert await browser.who() == "alice"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_secret_is_shown_to_the_provider_alone(tmp_path: Path, issuer: Issuer, method: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr:et\n")
    issuer.discovery = {"token_endpoint_auth_methods_supported": [method]}
    async with opened(tmp_path / "data", issuer, oidc_client_secret_file=secret) as site:
        await Browser(site).sign_in(issuer)
    (form,) = issuer.forms
    if method == "client_secret_post":
        assert (form["client_id"], form["client_secret"], form["authorization"]) == ("condery", "s3cr:et", "")
    else:
        assert base64.b64decode(form["authorization"].removeprefix("Basic ")) == b"condery:s3cr%3Aet"
    assert "s3cr" not in site.log.getvalue()


async def test_a_provider_that_did_not_answer_may_do_so_later(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "EXCHANGE_SECONDS", 0.05)
    issuer.pause = asyncio.Event()
    assert (await Browser(site).ask("GET", PROVIDER)).status == 403
    issuer.pause.set()
    monkeypatch.setattr(provider, "EXCHANGE_SECONDS", 20.0)
    monkeypatch.setattr(provider, "RETRY_SECONDS", 0.0)
    assert (await Browser(site).sign_in(issuer)).status == 303


async def test_without_a_provider_there_are_no_pages(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        for method, path in (("GET", PROVIDER), ("GET", "/login/callback"), ("POST", "/logout")):
            async with site.request(method, path) as response:
                assert response.status == (401 if method == "POST" else 404)


async def test_nobody_keeps_what_a_sign_in_is_answered(site: Site) -> None:
    answer = await Browser(site).ask("GET", PROVIDER)
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
