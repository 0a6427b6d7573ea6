"""The archives that all tests of imports begin with."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.builder.transfer.histories import History, make_history


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return asyncio.run(make_history(tmp_path_factory.mktemp("history")))
