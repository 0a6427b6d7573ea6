"""Pages of trusted origins, such as a JupyterLab with conda-store's extension, use the REST API and no more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from registry.http.settings import HttpSettings
from tests.support.registry.access import CLOSED
from tests.support.registry.browser import Browser
from tests.support.registry.people import PASSWORD, People, bearer
from tests.support.registry.serving import Site, serving

LAB = "https://lab.example.org"
PUBLIC = "https://registry.example.org"
READER = "https://reader.example.org"
# lab and registry are of one site, so that a browser sends the cookie
FROM_LAB = {"Origin": LAB, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
TOKENS = "/api/v1/token/"
PREFIX = "/conda-store"
FOREIGN = [
    "https://evil.example",
    "null",
    "https://lab.example.org.evil.example",
    "http://lab.example.org",
    f"{LAB}:8443",
    READER,
    "",
]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = HttpSettings(api_origins=(LAB,), cors_origins=(READER,), public_url=PUBLIC, api_prefix=PREFIX)
    async with serving(tmp_path, settings, sign_in=CLOSED) as running:
        await People(running).add("alice", "team/*=editor", password=PASSWORD)
        yield running


@pytest.fixture
async def browser(site: Site) -> Browser:
    """Alice is signed in."""
    browser = Browser(site)
    await browser.log_in("alice", PASSWORD)
    return browser


async def make_token(browser: Browser, headers: Mapping[str, str], path: str = TOKENS) -> Any:
    return await browser.ask("POST", path, headers, json={"name": "made by a page"})


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_it_works_in_the_name_of_who_is_signed_in(browser: Browser, prefix: str) -> None:
    read = await browser.ask("GET", f"{prefix}/api/v1/permission/", FROM_LAB)
    assert json.loads(read.text)["data"]["authenticated"] is True
    made = await make_token(browser, FROM_LAB, prefix + TOKENS)
    assert made.status == 200
    for answer in (read, made):
        assert answer.headers["Access-Control-Allow-Origin"] == LAB
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer.headers["Vary"]
    assert (await browser.ask("POST", f"{prefix}/logout", FROM_LAB)).status == 303
    assert browser.cookies == {}


async def test_it_works_with_a_token(site: Site, browser: Browser) -> None:
    token = json.loads((await make_token(browser, FROM_LAB)).text)["data"]["token"]
    sent = {**FROM_LAB, "Sec-Fetch-Site": "cross-site", **bearer(token)}
    answer = await Browser(site).ask("GET", TOKENS, sent)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, LAB)


async def test_a_browser_that_asks_first_is_told(site: Site) -> None:
    answer = await Browser(site).ask("OPTIONS", TOKENS, {**FROM_LAB, **PREFLIGHT})
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, PUT, DELETE"
    assert answer.headers["Access-Control-Allow-Headers"].endswith(", Content-Type")
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"


async def test_nothing_but_the_rest_api_is_open_to_it(site: Site, browser: Browser) -> None:
    for method, path in (
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("PUT", "/v2/team/app/manifests/v1"),
        ("DELETE", "/v2/team/app/manifests/v1"),
        ("POST", "/login"),
        ("POST", "/device"),
        ("POST", "/token"),
        ("GET", "/v2/team/app/tags/list"),
        ("GET", "/api"),
        ("GET", "/apis/"),
    ):
        answer = await browser.ask(method, path, FROM_LAB)
        assert answer.status in (400, 401, 403, 404), (method, path)
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Access-Control-Allow-Credentials" not in answer.headers
    document = {"username": "alice", "password": PASSWORD}
    assert (await Browser(site).ask("POST", "/login", FROM_LAB, json=document)).status == 403
    asked = await browser.ask("OPTIONS", "/v2/team/app/manifests/v1", {**FROM_LAB, **PREFLIGHT})
    assert asked.status == 405


@pytest.mark.parametrize("origin", FOREIGN)
async def test_conda_store_no_other_origin_gets_anything_with_credentials(browser: Browser, origin: str) -> None:
    """conda-store allowed every origin, with credentials."""
    for site_of_page in ("same-site", "cross-site"):
        headers = {"Origin": origin, "Sec-Fetch-Site": site_of_page, "Sec-Fetch-Mode": "cors"}
        read = await browser.ask("GET", TOKENS, headers)
        assert read.status == 401, "the cookie counts for nothing"
        made = await make_token(browser, headers)
        assert made.status == 403
        asked = await browser.ask("OPTIONS", TOKENS, {**headers, **PREFLIGHT})
        for answer in (read, made, asked):
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert origin == READER or "Access-Control-Allow-Origin" not in answer.headers


async def test_two_origins_are_none(site: Site, browser: Browser) -> None:
    headers = [("Origin", LAB), ("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")]
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with site.request("POST", TOKENS, headers=[*headers, ("Cookie", cookie)], json={"name": "x"}) as answer:
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_there_are_none_by_default(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpSettings(public_url=PUBLIC), sign_in=CLOSED) as site:
        answer = await Browser(site).ask("GET", "/api/v1/permission/", FROM_LAB)
        assert not {"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} & set(answer.headers)
        assert (await Browser(site).ask("OPTIONS", TOKENS, {**FROM_LAB, **PREFLIGHT})).status == 405


@pytest.mark.parametrize("origin", ["*", "null", "https://*.example.org", f"{LAB}/", "lab.example.org"])
def test_settings_take_exact_origins_alone(origin: str) -> None:
    with pytest.raises(ValidationError, match="not an origin as browsers send it"):
        HttpSettings(api_origins=(origin,))
