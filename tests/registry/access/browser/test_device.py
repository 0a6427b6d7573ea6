"""A program without a browser signs in by a person's (RFC 8628), and what others can do to either."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from auth.changing import AccessData
from auth.settings import AccessSettings
from auth.sign_in import device as device_module
from auth.sign_in import pending
from auth.sign_in.device import ALPHABET
from registry.access.token_route import DEVICE_GRANT
from registry.http.settings import HttpSettings
from storage.database.account_tables import sign_in
from tests.support.registry.access import CLOSED
from tests.support.registry.audited import read_events
from tests.support.registry.browser import Browser, fields_of
from tests.support.registry.people import BY, PASSWORD, People, Person, basic, bearer
from tests.support.registry.serving import Site, serving

OTHERS = {"Sec-Fetch-Site": "cross-site"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, sign_in=CLOSED) as running:
        yield running


@pytest.fixture
async def alice(site: Site) -> Person:
    return await People(site).add("alice", "team/*=viewer", password=PASSWORD)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices of these tests may ask as often as they like."""
    monkeypatch.setattr(device_module, "INTERVAL", 0)


async def begin(site: Site, headers: Mapping[str, str] | None = None, **fields: str) -> dict[str, Any]:
    answer = await Browser(site).ask("POST", "/device/code", headers, form={"client_id": "condery", **fields})
    assert answer.status == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = json.loads(answer.text)
    return found


async def poll(site: Site, code: str) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": DEVICE_GRANT, "device_code": code, "client_id": "condery"}
    answer = await Browser(site).ask("POST", "/token", form=form)
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status, json.loads(answer.text)


async def error_of(site: Site, code: str) -> str:
    status, document = await poll(site, code)
    assert status == 400
    return str(document["error"])


async def signed_in(site: Site) -> Browser:
    browser = Browser(site)
    assert (await browser.log_in("alice", PASSWORD)).status == 303
    return browser


async def look(browser: Browser, code: str) -> dict[str, str]:
    """Type a code; the fields of the page that asks whether to allow it."""
    answer = await browser.send_form("/device", "/device", user_code=code)
    assert answer.status == 200, answer.text
    return fields_of(answer.text)


async def answer_with(browser: Browser, code: str, answer: str) -> int:
    return (await browser.ask("POST", "/device", form={**await look(browser, code), "answer": answer})).status


async def test_a_person_lets_a_device_in(site: Site, alice: Person) -> None:
    codes = await begin(site, device="laptop <b>")
    assert codes["verification_uri"] == f"{site.url}/device"
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    assert re.fullmatch(f"[{ALPHABET}]{{4}}-[{ALPHABET}]{{4}}", codes["user_code"])
    assert await error_of(site, codes["device_code"]) == "authorization_pending"
    browser = await signed_in(site)
    # a link has the code, which is shown and has still to be looked at
    link = codes["verification_uri_complete"].removeprefix(site.url)
    assert (await browser.open_form(link))["user_code"] == codes["user_code"]
    assert await error_of(site, codes["device_code"]) == "authorization_pending"
    shown = await browser.send_form(link, "/device", user_code=codes["user_code"].lower().replace("-", " "))
    assert "<b>laptop &lt;b&gt;</b> wants to sign in as <b>alice</b>" in shown.text
    assert "from the address 127.0.0.1" in shown.text
    assert codes["user_code"] in shown.text
    assert await error_of(site, codes["device_code"]) == "authorization_pending"
    done = await browser.ask("POST", "/device", form={**fields_of(shown.text), "answer": "allow"})
    assert (done.status, "Allowed" in done.text) == (200, True)
    status, document = await poll(site, codes["device_code"])
    assert (status, document["token_type"], document["account"]) == (200, "Bearer", "alice")
    assert 0 < document["expires_in"] <= 365 * 86400
    token = document["access_token"]
    assert await Browser(site).who(bearer(token)) == "alice"
    # it is a token like any other: named, listed, revoked
    listed = json.loads((await Browser(site).ask("GET", "/api/v1/token/", alice.headers)).text)["data"]
    assert [each["name"] for each in listed] == ["the test", "laptop <b>"]
    assert await error_of(site, codes["device_code"]) == "expired_token", "a code is good for one token"
    revoked = await Browser(site).ask("DELETE", "/api/v1/token/current/", bearer(token))
    assert revoked.status == 200
    assert await Browser(site).who(bearer(token)) == 401
    told = await read_events(site)
    for action in ("device.sign-in", "token.create", "sign-in"):
        assert ("alice", action, "alice", "allowed") in told


async def test_a_person_denies_it(site: Site, alice: Person) -> None:
    codes = await begin(site)
    browser = await signed_in(site)
    assert await answer_with(browser, codes["user_code"], "deny") == 200
    assert await error_of(site, codes["device_code"]) == "access_denied"
    assert await error_of(site, codes["device_code"]) == "access_denied"
    # nobody can allow it afterwards
    answer = await browser.send_form("/device", "/device", user_code=codes["user_code"], answer="allow")
    assert answer.status == 404
    assert await error_of(site, codes["device_code"]) == "access_denied"


async def test_whoever_is_not_signed_in_does_so_first(site: Site, alice: Person) -> None:
    codes = await begin(site)
    link = codes["verification_uri_complete"].removeprefix(site.url)
    browser = Browser(site)
    asked = await browser.ask("GET", link)
    assert asked.status == 303
    assert asked.location.startswith("/login?next=%2Fdevice%3Fuser_code%3D")
    back = await browser.log_in("alice", PASSWORD, asked.location)
    assert (await browser.open_form(back.location))["user_code"] == codes["user_code"]
    form = {"user_code": codes["user_code"], "answer": "allow"}
    refused = await Browser(site).ask("POST", "/device", form=form)
    assert refused.status == 401
    assert '<a href="/login">' in refused.text
    # with Basic the browser would ask for a password by itself
    assert refused.headers.getall("WWW-Authenticate") == [f'Bearer realm="{site.url}/token",service="condery"']
    # but one that has sent a wrong one would send it for ever
    wrong = await Browser(site).ask("POST", "/device", basic("alice", "an old password"), form=form)
    assert wrong.status == 401
    assert any(each.startswith("Basic ") for each in wrong.headers.getall("WWW-Authenticate"))
    assert await error_of(site, codes["device_code"]) == "authorization_pending"


async def test_a_device_that_asks_too_often(site: Site, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "INTERVAL", 5)
    code = (await begin(site))["device_code"]
    assert await error_of(site, code) == "authorization_pending"
    for seconds in (10, 15):
        status, document = await poll(site, code)
        assert (status, document["error"]) == (400, "slow_down")
        assert f"after {seconds} seconds" in document["error_description"]
    another = (await begin(site))["device_code"]
    assert await error_of(site, another) == "authorization_pending", "it is that device alone"


async def test_codes_that_are_none(site: Site, alice: Person) -> None:
    codes = await begin(site)
    for code in ("x", "é", "x" * 10_000, codes["user_code"], codes["device_code"][:-1]):
        assert await error_of(site, code) == "expired_token"
    answer = await Browser(site).ask("POST", "/token", form={"grant_type": DEVICE_GRANT})
    assert (answer.status, json.loads(answer.text)["error"]) == (400, "invalid_request")
    browser = await signed_in(site)
    for text in ("BCDF-BCDF", "", "é", "' OR 1=1", "<script>"):
        page = await browser.send_form("/device", "/device", user_code=text)
        assert page.status == (404 if text else 200)
        assert "<script>" not in page.text


async def test_codes_end(site: Site, alice: Person) -> None:
    codes = await begin(site)
    data = AccessData(site.workshop.store.database, site.workshop.store.changes)
    browser = await signed_in(site)
    fields = await look(browser, codes["user_code"])
    async with data.changing() as connection:
        await connection.execute(update(sign_in).values(expires=1.0))
    assert (await browser.ask("POST", "/device", form={**fields, "answer": "allow"})).status == 404
    assert await error_of(site, codes["device_code"]) == "expired_token"


async def test_only_hashes_are_stored(site: Site, alice: Person) -> None:
    codes = await begin(site)
    async with site.workshop.store.database.reading() as connection:
        found = repr(list(await connection.execute(select(sign_in))))
    assert codes["device_code"] not in found
    assert codes["user_code"] not in found
    assert codes["user_code"].replace("-", "") not in found
    assert codes["device_code"] not in site.log.getvalue()


async def test_codes_that_are_guessed_have_to_wait(site: Site, alice: Person) -> None:
    browser = await signed_in(site)
    statuses = [(await browser.send_form("/device", "/device", user_code="BCDF-BCDF")).status for _ in range(11)]
    assert statuses == [404] * 10 + [429]


async def test_a_page_of_another_site_allows_nothing(site: Site, alice: Person) -> None:
    codes = await begin(site)
    browser = await signed_in(site)
    fields = {**await look(browser, codes["user_code"]), "answer": "allow"}
    for headers in (OTHERS, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert (await browser.ask("POST", "/device", headers, form=fields)).status in (401, 403)
        assert (await Browser(site).ask("POST", "/device/code", headers, form={"client_id": "x"})).status == 403
    for form in ({**fields, "form": "x"}, {name: text for name, text in fields.items() if name != "form"}):
        assert (await browser.ask("POST", "/device", form=form)).status == 403
    assert await error_of(site, codes["device_code"]) == "authorization_pending"


async def test_a_token_gives_no_other_that_may_more(site: Site, alice: Person) -> None:
    """CVE-2026-24791 (Gitea): self-service routes forget a token's limits."""
    codes = await begin(site)
    limited = bearer(await People(site).access_token(alice, "team/*=viewer"))
    browser = Browser(site)
    for headers in (alice.headers, limited, basic("x", alice.token)):
        assert (await browser.ask("GET", "/device", headers)).status == 403
        form = {**(await browser.open_form("/login")), "user_code": codes["user_code"], "answer": "allow"}
        assert (await browser.ask("POST", "/device", headers, form=form)).status == 403
    assert await error_of(site, codes["device_code"]) == "authorization_pending"


async def test_what_is_allowed_ends_with_the_password(site: Site, alice: Person) -> None:
    codes = await begin(site)
    assert await answer_with(await signed_in(site), codes["user_code"], "allow") == 200
    await People(site).accounts.set_password("alice", "another battery", by=BY)
    assert await error_of(site, codes["device_code"]) == "access_denied"


async def test_how_long_it_holds(site: Site, alice: Person) -> None:
    codes = await begin(site, lifetime="3600")
    assert await answer_with(await signed_in(site), codes["user_code"], "allow") == 200
    _, document = await poll(site, codes["device_code"])
    assert 3500 < document["expires_in"] <= 3600
    for fields in (
        {"lifetime": "0"},
        {"lifetime": "x"},
        {"lifetime": "999999999"},
        {"device": "a\nb"},
        {"client_id": ""},
    ):
        answer = await Browser(site).ask("POST", "/device/code", form={"client_id": "condery", **fields})
        assert (answer.status, json.loads(answer.text)["error"]) == (400, "invalid_request"), fields


async def test_two_browsers_decide_once(site: Site, alice: Person) -> None:
    codes = await begin(site)
    browsers = [await signed_in(site) for _ in range(4)]
    forms = [{**await look(each, codes["user_code"]), "answer": "allow"} for each in browsers]
    answers = await asyncio.gather(
        *(each.ask("POST", "/device", form=form) for each, form in zip(browsers, forms, strict=True))
    )
    assert sorted(each.status for each in answers) == [200, 404, 404, 404]
    polled = await asyncio.gather(*(poll(site, codes["device_code"]) for _ in range(4)))
    assert sorted(status for status, _ in polled) == [200, 400, 400, 400]


async def test_several_processes_share_the_codes(tmp_path: Path) -> None:
    url = HttpSettings(public_url="http://localhost:5000")
    async with serving(tmp_path, url, sign_in=CLOSED) as one, serving(tmp_path, url, sign_in=CLOSED) as two:
        await People(one).add("alice", password=PASSWORD)
        codes = await begin(one)
        assert codes["verification_uri"] == "http://localhost:5000/device"
        assert await answer_with(await signed_in(two), codes["user_code"], "allow") == 200
        status, document = await poll(one, codes["device_code"])
        assert (status, document["account"]) == (200, "alice")


async def test_devices_of_one_client_push_out_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "MOST_OF_CLIENT", 2)
    settings = AccessSettings(sign_in_requests=100)
    async with serving(tmp_path, HttpSettings(trusted_proxies=("127.0.0.1",)), sign_in=settings) as site:
        of_other = await begin(site, {"X-Forwarded-For": "192.0.2.7"})
        mine = [await begin(site, {"X-Forwarded-For": "192.0.2.1"}) for _ in range(4)]
        errors = [await error_of(site, each["device_code"]) for each in (of_other, *mine)]
        assert errors == ["authorization_pending", *["expired_token"] * 2, *["authorization_pending"] * 2]
