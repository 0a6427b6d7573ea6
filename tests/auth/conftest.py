"""What tests of this folder share: accounts and bindings on each kind of database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from auth.accounts.loading import PrincipalLoader
from auth.accounts.passwords import Passwords
from auth.changing import AccessData
from storage.database.engine import Database
from storage.events.changes import Changes
from tests.support.auth.opened import CHEAP, Opened
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


@pytest.fixture
def passwords(data: AccessData) -> Iterator[Passwords]:
    with Passwords(data, 2, CHEAP) as opened:
        yield opened


@pytest.fixture
def opened(data: AccessData, passwords: Passwords) -> Opened:
    return Opened.over(data, passwords)
