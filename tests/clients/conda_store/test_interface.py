"""conda-store's web interface in Chromium."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Page

from tests.clients.conda_store.conftest import PREFIX
from tests.support.chromium import Window
from tests.support.registry.people import PASSWORD
from tests.support.server import Server

pytestmark = pytest.mark.clients


def address(store: Server, path: str) -> str:
    return f"http://localhost:{store.port}{path}"


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_it_starts_and_loads_nothing_of_other_hosts(opened: Window, store: Server, prefix: str) -> None:
    page = opened.page
    async with page.expect_response(address(store, f"{prefix}/api/v1/permission/")) as asked:
        await page.goto(address(store, f"{prefix}/ui/"))
    assert (await asked.value).status == 200
    await page.get_by_text("Select an environment to show details").wait_for()
    blocked = [line for line in opened.complaints if "Content Security Policy" in line]
    assert all("fonts.gstatic.com" in line for line in blocked), "its styles and scripts run"
    assert not [answer for answer in opened.answers if not answer.startswith(address(store, "/"))]


async def test_a_person_signs_in_and_out(opened: Window, store: Server) -> None:
    page = opened.page
    # where nobody is signed in, the button leads to our page, and that leads back
    await page.goto(address(store, "/ui/"))
    await page.get_by_role("button", name="Log in").click()
    await fill_in(page)
    await page.get_by_role("button", name="Log out").wait_for()
    assert page.url == address(store, "/ui/")
    names = {cookie["name"] for cookie in await page.context.cookies()}
    assert names == {"condery-session"}
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_role("button", name="Log in").wait_for()
    assert await page.context.cookies() == []


async def sign_in(page: Page, store: Server) -> None:
    await page.goto(address(store, "/login"))
    await fill_in(page)


async def fill_in(page: Page) -> None:
    await page.get_by_label("Name").fill("alice")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()


async def open_elsewhere(page: Page, elsewhere: str, store: Server) -> None:
    """The interface on the page of another server, with the addresses that the extension has by default."""
    base = address(store, PREFIX)
    config = {"REACT_APP_API_URL": f"{base}/", "REACT_APP_LOGIN_PAGE_URL": f"{base}/login?next="}
    config |= {"REACT_APP_LOGOUT_PAGE_URL": f"{base}/logout?next=/", "REACT_APP_ROUTER_TYPE": "memory"}
    await page.add_init_script(f"window.condaStoreConfig = {json.dumps(config)}")
    await page.goto(f"{elsewhere}/index.html")


async def test_it_works_on_a_page_of_an_origin_that_is_trusted(opened: Window, store: Server, elsewhere: str) -> None:
    page = opened.page
    await sign_in(page, store)
    await open_elsewhere(page, elsewhere, store)
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_role("button", name="Log in").wait_for()
    assert await page.context.cookies() == []


async def test_it_does_not_on_a_page_of_another(opened: Window, store: Server, elsewhere: str) -> None:
    page = opened.page
    await sign_in(page, store)
    other = elsewhere.replace("localhost", "127.0.0.1")
    await open_elsewhere(page, other, store)
    await page.get_by_role("button", name="Log in").wait_for()
    blocked = [line for line in opened.complaints if "blocked by CORS policy" in line]
    assert blocked
    assert all(f"from origin '{other}'" in line for line in blocked)
