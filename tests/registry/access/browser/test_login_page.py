"""Signing in with name and password in a browser: what people get, and what others can do to them on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from auth.settings import AccessSettings
from auth.sign_in.settings import SignInSettings
from registry.http.settings import HttpSettings
from storage.database.account_tables import browser_session
from tests.support.registry.access import CLOSED
from tests.support.registry.audited import read_events
from tests.support.registry.browser import Browser
from tests.support.registry.people import BY, PASSWORD, People, basic
from tests.support.registry.serving import Site, serving
from tests.support.servers.issuer import Issuer

PUBLIC = "https://registry.example.org"
SESSION, FORM = "__Host-condery-session", "__Host-condery-form"
CONDA_STORES = "conda-store-auth"
OURS = {"Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def site(tmp_path: Path) -> Any:
    async with serving(tmp_path, HttpSettings(public_url=PUBLIC), sign_in=CLOSED) as running:
        await People(running).add("alice", "team/*=viewer", password=PASSWORD)
        yield running


async def test_a_person_signs_in_and_out(site: Site) -> None:
    browser = Browser(site)
    answer = await browser.log_in("alice", PASSWORD, "/login?next=/v2/team/app/tags/list")
    assert (answer.status, answer.location) == (303, "/v2/team/app/tags/list")
    assert await browser.who() == "alice"
    assert (await browser.ask("GET", answer.location)).status == 404, "it is empty, which only who may read is told"
    kept = dict(browser.cookies)
    text = (await browser.ask("GET", "/login")).text
    assert "signed in as <b>alice</b>" in text
    assert (await browser.ask("POST", "/logout", OURS)).status == 303
    assert browser.cookies == {}
    assert await Browser(site, kept).who() == 401, "the session is gone, and not only the cookie"


async def test_cookies_are_for_this_host_and_hidden(site: Site) -> None:
    browser = Browser(site)
    seen = [*(await browser.ask("GET", "/login")).set_cookies, *(await browser.log_in("alice", PASSWORD)).set_cookies]
    assert len(seen) == 3
    for each in seen:
        assert each.startswith("__Host-")
        assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} <= set(each.split("; "))
        assert "Domain" not in each
    async with site.workshop.store.database.reading() as connection:
        stored = repr(list(await connection.execute(select(browser_session))))
    assert browser.cookies[SESSION] not in stored


async def test_without_https_cookies_have_another_name(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_in=CLOSED) as site:
        await People(site).add("alice", password=PASSWORD)
        browser = Browser(site)
        await browser.log_in("alice", PASSWORD)
        assert list(browser.cookies) == ["condery-session"]
        assert await browser.who() == "alice"
        # behind a proxy that speaks https and is not known, forms would come from another origin
        assert (await browser.log_in("alice", PASSWORD)).status == 303
        sent = await browser.send_form(
            "/login", "/login", {"Origin": site.url.replace("http", "https")}, username="alice"
        )
        assert sent.status == 403


async def test_no_page_has_a_script_or_can_be_framed(site: Site) -> None:
    await People(site).add("bob", password=PASSWORD)
    browser = Browser(site)
    await browser.log_in("bob", PASSWORD)
    for path in ("/login", "/device", "/device?user_code=BCDF-GHJK"):
        answer = await browser.ask("GET", path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= set(policy.split("; "))
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        # with no-referrer browsers would send `Origin: null` with our own forms
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert not any(word in answer.text for word in ("<script", "javascript:", " onclick", " onload", "unsafe"))


@pytest.mark.parametrize("where", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil", ""])
async def test_an_open_redirect(site: Site, where: str) -> None:
    browser = Browser(site)
    fields = await browser.open_form("/login")
    answer = await browser.ask(
        "POST", "/login", form={**fields, "next": where, "username": "alice", "password": PASSWORD}
    )
    assert (answer.status, answer.location) == (303, "/")


async def test_a_wrong_login(site: Site) -> None:
    await People(site).accounts.add_person("gone", PASSWORD, by=BY)
    await People(site).accounts.disable("gone", by=BY)
    await People(site).add("nopassword")
    texts = set()
    for name, password in (("alice", "wrong"), ("nobody", "wrong"), ("gone", PASSWORD), ("nopassword", ""), ("", "")):
        browser = Browser(site)
        answer = await browser.log_in(name, password)
        assert answer.status == 403
        assert "The name or the password is wrong." in answer.text
        assert SESSION not in browser.cookies
        assert await browser.who() == 401
        token = browser.cookies[FORM]
        texts.add(answer.text.replace(token, "").replace(f'value="{name}" ', 'value="" '))
    assert len(texts) == 1, "neither the account nor whether there is one shows"
    for name in ('"><script>alert(1)</script>', "\x00", "x" * 5000, PASSWORD + "é"):
        answer = await Browser(site).log_in(name, "wrong")
        assert answer.status == 403
        assert name not in answer.text


async def test_too_many_wrong_logins_wait(tmp_path: Path) -> None:
    few = AccessSettings(anonymous_bindings=("none",), login_attempts=4)
    async with serving(tmp_path, sign_in=few) as site:
        await People(site).add("alice", password=PASSWORD)
        statuses = [(await Browser(site).log_in("alice", "wrong")).status for _ in range(3)]
        assert statuses == [403, 403, 429]
        answer = await Browser(site).log_in("alice", "wrong")
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"].startswith("text/html")
        # the same counts for a client that sends Basic
        assert (await Browser(site).ask("GET", "/v2/", basic("alice", "wrong"))).status == 429


async def test_requests_of_one_address_are_bounded(tmp_path: Path) -> None:
    few = AccessSettings(sign_in_requests=5)
    settings = HttpSettings(trusted_proxies=("127.0.0.1",))
    async with serving(tmp_path, settings, sign_in=few) as site:
        one = {"X-Forwarded-For": "192.0.2.1"}
        paths = ["/login", "/device", "/login/", "/login/callback", "/login/provider", "/login", "/device/code"]
        statuses = []
        for path in paths:
            method = "POST" if path.endswith("code") else "GET"
            answer = await Browser(site).ask(method, path, one)
            statuses.append(answer.status)
        assert statuses == [200, 303, 200, 404, 404, 429, 429]
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        # others are not, nor is anything else
        assert (await Browser(site).ask("GET", "/login", {"X-Forwarded-For": "192.0.2.2"})).status == 200
        assert (await Browser(site).ask("GET", "/v2/", one)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": f"{PUBLIC}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": ""},
        {"Origin": PUBLIC, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)  # fmt: skip
async def test_a_page_of_another_site_signs_nobody_in(site: Site, headers: Mapping[str, str]) -> None:
    """Login CSRF; CVE-2026-40864 (JupyterHub): Sec-Fetch-Mode passes XSRF."""
    browser = Browser(site)
    answer = await browser.send_form("/login", "/login", headers, username="alice", password=PASSWORD)
    assert answer.status == 403
    document = json.dumps({"username": "alice", "password": PASSWORD})
    sent = {**headers, "Content-Type": "application/json"}
    assert (await browser.ask("POST", "/login", sent, form=document)).status == 403
    assert SESSION not in browser.cookies


async def test_a_form_that_this_browser_was_not_given(site: Site) -> None:
    mine, others = Browser(site), Browser(site)
    fields = {**(await others.open_form("/login")), "username": "alice", "password": PASSWORD}
    assert "not made for this browser" in (await mine.ask("POST", "/login", form=fields)).text
    await mine.open_form("/login")
    for form in (fields, {**fields, "form": ""}, {**fields, "form": "é"}, {"username": "alice", "password": PASSWORD}):
        answer = await mine.ask("POST", "/login", form=form)
        assert (answer.status, SESSION in mine.cookies) == (403, False)
    twice = f"form={mine.cookies[FORM]}&username=a&username=alice&password=x"
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await mine.ask("POST", "/login", sent, form=twice)).status == 400
    for kind in ("text/plain", "multipart/form-data; boundary=x"):
        answer = await mine.ask("POST", "/login", {"Content-Type": kind}, form=twice)
        assert answer.status == 400


async def test_a_session_is_new_at_each_sign_in(site: Site) -> None:
    """Session fixation."""
    browser = Browser(site, {SESSION: "prepared"})
    assert await browser.who() == 401
    await browser.log_in("alice", PASSWORD)
    first = dict(browser.cookies)
    assert first[SESSION] != "prepared"
    assert FORM not in first, "forms have another text from now on"
    await browser.log_in("alice", PASSWORD)
    assert browser.cookies[SESSION] != first[SESSION]
    assert await Browser(site, first).who() == 401, "the one before has ended"


async def test_a_session_ends_with_the_password(site: Site) -> None:
    browser = Browser(site)
    await browser.log_in("alice", PASSWORD)
    assert await browser.who() == "alice"
    await People(site).accounts.set_password("alice", "another battery", by=BY)
    assert await browser.who() == 401


async def test_clients_of_conda_store_send_json(site: Site) -> None:
    browser = Browser(site)
    for document, status in (
        ({"username": "alice", "password": "wrong"}, 403),
        ({"username": "alice"}, 400),
        ({"username": ["alice"], "password": 7}, 400),
        ([], 400),
        ({"username": "alice", "password": PASSWORD, "more": 1}, 400),
        ({"username": "alice", "password": PASSWORD, "is_admin": True}, 400),
        ({"username": "alice", "password": PASSWORD}, 303),
    ):
        answer = await browser.ask("POST", "/login/", json=document)
        assert answer.status == status, answer.text
    assert await browser.who() == "alice"


async def test_clients_of_conda_store_get_its_cookie(site: Site) -> None:
    browser = Browser(site)
    await browser.log_in("alice", PASSWORD)
    assert CONDA_STORES not in browser.cookies, "people with a browser have no use for it"
    program = Browser(site)
    await program.ask("POST", "/login/", json={"username": "alice", "password": PASSWORD})
    text = program.cookies[CONDA_STORES]
    assert text == program.cookies[SESSION]
    kept = Browser(site, {CONDA_STORES: text})
    assert await kept.who() == "alice"
    # a neighbour of this host can set it in a browser, to have somebody work in an account of theirs
    for headers in (OURS, {"Origin": PUBLIC}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Mode": "navigate"}):
        assert (await kept.ask("GET", "/api/v1/token/", headers)).status == 401, headers
    assert (await kept.ask("POST", "/logout/")).status == 303
    assert kept.cookies == {}
    assert await program.who() == 401, "the session is gone, and not only the cookie"


@pytest.mark.parametrize(
    ("asked", "leads"),
    [
        ("/ui/default/analysis", "/ui/default/analysis"),
        (f"{PUBLIC}/ui/default/analysis", "/ui/default/analysis"),
        (f"{PUBLIC}/ui/?page=2", "/ui/?page=2"),
        (f"{PUBLIC}//evil.example", "/"),
        (f"{PUBLIC}/\\evil.example", "/"),
        (PUBLIC, "/"),
        (f"{PUBLIC}.evil.example/", "/"),
        (f"{PUBLIC}@evil.example/", "/"),
        (f"{PUBLIC.replace('https', 'http')}/", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("\t//evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
async def test_whoever_signs_in_goes_on_to_a_page_here(site: Site, asked: str, leads: str) -> None:
    """conda-store's `next` leads anywhere; its interface names its own page with the host, unencoded."""
    answer = await Browser(site).log_in("alice", PASSWORD, f"/login?next={asked}")
    assert (answer.status, answer.location) == (303, leads)


async def test_who_signs_in_is_audited(site: Site) -> None:
    browser = Browser(site)
    for _ in range(2):
        # the second session takes the place of the first
        await browser.log_in("alice", PASSWORD)
    await browser.send_form("/login", "/logout")
    await browser.log_in("alice", "wrong")
    assert [each for each in await read_events(site) if each[0] != "operator"] == [
        ("alice", "session.create", "alice", "allowed"),
        ("alice", "session.end", "alice", "allowed"),
        ("alice", "session.create", "alice", "allowed"),
        ("alice", "session.end", "alice", "allowed"),
        ("anonymous", "sign-in", "alice", "denied"),
    ]
    assert PASSWORD not in site.log.getvalue()


async def test_where_passwords_are_for_no_browser(tmp_path: Path) -> None:
    settings = AccessSettings(anonymous_bindings=("none",), browser_passwords=False)
    async with Issuer() as issuer:
        elsewhere = SignInSettings(oidc_issuer=issuer.url, oidc_client_id="condery")
        http = HttpSettings(public_url=PUBLIC)
        async with serving(tmp_path / "a", http, sign_in=settings, elsewhere=elsewhere) as site:
            answer = await Browser(site).ask("GET", "/login?next=/v2/")
            assert (answer.status, answer.location) == (303, "/login/provider?next=%2Fv2%2F")
            assert (await Browser(site).ask("POST", "/login", form={"username": "a"})).status == 404
        async with serving(tmp_path / "b", http, sign_in=CLOSED, elsewhere=elsewhere) as site:
            assert (
                '<a href="/login/provider?next=%2Fv2%2F">' in (await Browser(site).ask("GET", "/login?next=/v2/")).text
            )
    async with serving(tmp_path / "c", sign_in=settings) as site:
        assert (await Browser(site).ask("GET", "/login")).status == 404


async def test_without_accounts_nobody_is_asked_to_sign_in(tmp_path: Path) -> None:
    """That there is a page for it does not mean that anybody can."""
    async with serving(tmp_path, sign_in=AccessSettings()) as site:
        assert (await Browser(site).ask("GET", "/v2/")).status == 200


async def test_many_sign_ins_at_once(site: Site) -> None:
    browsers = [Browser(site) for _ in range(6)]
    answers = await asyncio.gather(*(each.log_in("alice", PASSWORD) for each in browsers))
    assert {each.status for each in answers} == {303}
    assert len({each.cookies[SESSION] for each in browsers}) == 6
