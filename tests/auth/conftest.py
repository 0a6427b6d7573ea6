"""What tests of this folder share: rows of accounts and bindings on each kind of database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auth.accounts.loading import PrincipalLoader
from auth.changing import AccessData
from storage.database.engine import Database
from storage.events.changes import Changes
from tests.support.auth.rows import Rows


@pytest.fixture
async def data(database_url: str, tmp_path: Path) -> AsyncIterator[AccessData]:
    database = Database.open(database_url)
    yield AccessData(database, Changes(tmp_path / "changes"))
    await database.close()


@pytest.fixture
def rows(data: AccessData) -> Rows:
    return Rows(data)


@pytest.fixture
def loader(rows: Rows) -> PrincipalLoader:
    return rows.loader()
