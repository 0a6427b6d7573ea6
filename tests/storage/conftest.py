"""What tests of this folder share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.storage.content import Content, open_content


@pytest.fixture
async def content(tmp_path: Path, database_url: str) -> AsyncIterator[Content]:
    async with open_content(tmp_path, url=database_url) as opened:
        yield opened
