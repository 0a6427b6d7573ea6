"""The page to try the REST API, in Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.chromium import Window, window
from tests.support.registry.commands import run_line
from tests.support.server import Server

pytestmark = pytest.mark.clients


@pytest.fixture
async def opened() -> AsyncIterator[Window]:
    async with window() as opened:
        yield opened


async def test_the_page_to_try_the_api_sends_what_its_forms_say(opened: Window, administered: Server) -> None:
    page = opened.page
    await page.goto(f"http://localhost:{administered.port}/api/docs")
    form = page.locator("#get_permission")
    await form.locator("summary").click()
    await form.get_by_role("button", name="Send").click()
    await form.get_by_text('"authenticated": false').wait_for()
    making = page.locator("#post_token")
    await making.locator("summary").first.click()
    await making.locator("textarea").fill('{"name": "<b>tried</b>"}')
    await making.get_by_role("button", name="Send").click()
    await making.get_by_text("401 Unauthorized").wait_for()
    assert opened.complaints == ["Failed to load resource: the server responded with a status of 401 (Unauthorized)"]


async def test_that_page_sends_a_token(opened: Window, administered: Server) -> None:
    page = opened.page
    token = run_line(administered.data_dir, "token create tried --user alice")
    await page.goto(f"http://localhost:{administered.port}/api/docs")
    await page.get_by_label("Access token").fill(token)
    form = page.locator("#get_token")
    await form.locator("summary").click()
    await form.locator("[name=size]").fill("1")
    await form.get_by_role("button", name="Send").click()
    await form.get_by_text('"owner": "alice"').wait_for()
    await form.get_by_text("GET /api/v1/token/?size=1").wait_for()
