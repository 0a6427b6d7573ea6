"""Environments on conda-store's web interface: listed, made, changed, failed, rolled back and downloaded."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import yaml
from playwright.async_api import Page, expect

from tests.clients.conda_store.conftest import Store
from tests.support.chromium import Window
from tests.support.registry.people import PASSWORD
from tests.support.server import Server

pytestmark = pytest.mark.clients

PATIENCE = 60_000
"""Milliseconds; the interface asks every five seconds."""
expect.set_options(timeout=PATIENCE)


@pytest.fixture
async def page(opened: Window, store: Server, at_home: str) -> AsyncIterator[Page]:
    """Alice is signed in, and nothing breaks on the way."""
    page = opened.page
    await sign_in(page, at_home)
    yield page
    broken = [line for line in opened.complaints if "Error" in line and "<svg>" not in line]
    assert broken == []


@pytest.fixture
def at_home(store: Server) -> str:
    return f"http://localhost:{store.port}"


async def sign_in(page: Page, address: str) -> None:
    await page.goto(f"{address}/login")
    await page.get_by_label("Name").fill("alice")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{address}/")


async def write(page: Page, *dependencies: str) -> None:
    """Type a specification into the editor."""
    await page.get_by_text("YAML", exact=True).click()
    await page.locator(".cm-content").click()
    await page.keyboard.press("Control+A")
    text = yaml.safe_dump({"channels": [], "dependencies": list(dependencies), "variables": {}})
    await page.keyboard.insert_text(text)
    await expect(page.locator(".cm-content")).to_contain_text(dependencies[-1])


async def test_a_person_makes_an_environment_changes_it_and_sees_why_it_fails(page: Page, at_home: str) -> None:
    await page.goto(f"{at_home}/ui/alice/new-environment")
    await page.get_by_label("Environment name").fill("drawn")
    await page.get_by_placeholder("Enter here the description").fill("Drawn by a test")
    await write(page, "tzdata")
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page.get_by_test_id("build-status")).to_contain_text("Completed")
    assert page.url == f"{at_home}/ui/alice/drawn"
    await expect(page.get_by_text("Drawn by a test")).to_be_visible()
    for link in ("Show lockfile", "Show yml file", "Show Docker image", "Download archive"):
        await expect(page.get_by_role("link", name=link)).to_be_visible()
    await page.get_by_role("button", name="Edit", exact=True).click()
    await write(page, "tzdata", "no-package-has-this-name")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_test_id("build-status")).to_contain_text("Failed (")
    await expect(page.get_by_test_id("build-status")).to_contain_text("no-package-has-this-name")
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Log", exact=True).click()
    log = await opened.value
    await expect(log.locator("body")).to_contain_text("no-package-has-this-name")


async def test_a_specification_that_is_wrong_is_refused_with_the_reason(page: Page, at_home: str) -> None:
    await page.goto(f"{at_home}/ui/alice/new-environment")
    await page.get_by_label("Environment name").fill("wrong")
    await write(page, "numpy=>2")
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("numpy=>2")


async def test_environments_are_listed_and_found(page: Page, at_home: str, made: Store) -> None:
    made.make("listed-one", ["tzdata"])
    made.make("listed-two", ["tzdata"])
    await page.goto(f"{at_home}/ui/")
    await page.get_by_role("button", name="alice").click()
    await expect(page.get_by_text("listed-one")).to_be_visible()
    await page.get_by_placeholder("Search for environment").fill("two")
    await expect(page.get_by_text("listed-one")).to_be_hidden()
    await page.get_by_text("listed-two").click()
    await expect(page.get_by_test_id("build-status")).to_contain_text("Completed")


async def test_an_environment_is_rolled_back(page: Page, at_home: str, made: Store) -> None:
    first = made.make("rolled", ["tzdata"])
    made.wait(first)
    second = made.make("rolled", ["tzdata", "ca-certificates"])
    made.wait(second)
    assert made.send("GET", "environment/alice/rolled/")["data"]["current_build_id"] == second
    await page.goto(f"{at_home}/ui/alice/rolled")
    await page.get_by_role("button", name="Edit", exact=True).click()
    await page.locator("[role=combobox], [role=button][aria-haspopup=listbox]").first.click()
    await page.locator(f"[role=option][data-value='{first}']").click()
    await page.get_by_role("button", name="Change environment version").click()
    await expect(page.get_by_text("has been updated with the selected build")).to_be_visible()
    assert made.send("GET", "environment/alice/rolled/")["data"]["current_build_id"] == first


async def test_what_is_made_of_a_build_is_downloaded(page: Page, at_home: str, made: Store) -> None:
    made.wait(made.make("downloaded", ["tzdata"]))
    await page.goto(f"{at_home}/ui/alice/downloaded")
    async with page.expect_download() as saved:
        await page.get_by_role("link", name="Download archive").click()
    assert (await saved.value).suggested_filename.endswith(".tar.gz")
