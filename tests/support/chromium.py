"""Debian's Chromium, without a window."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Page, async_playwright

PROGRAM = "chromium"
PATIENCE_MILLISECONDS = 30_000


@dataclass
class Window:
    """A page of a browser with a profile of its own, and what the browser complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Lines of its console that are warnings or errors, and errors of scripts."""
    answers: list[str] = field(default_factory=list)
    """The address of each answer."""


@contextlib.asynccontextmanager
async def window() -> AsyncIterator[Window]:
    """Skips the test if Chromium is missing."""
    program = shutil.which(PROGRAM)
    if program is None:
        pytest.skip(f"{PROGRAM} is not installed")
    async with async_playwright() as playwright:
        # in a container there is no sandbox, and little shared memory
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = await browser.new_page(accept_downloads=True)
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        opened = Window(page)
        page.on("console", lambda line: opened.complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("response", lambda answer: opened.answers.append(answer.url))
        try:
            yield opened
        finally:
            await browser.close()
