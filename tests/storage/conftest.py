"""What tests of this folder share: the databases."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.database.engine import migrate, sqlite_url
from tests.support.servers.postgres import Postgres
from tests.support.storage.content import Content, open_content


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a migrated database of each kind with nothing in it; SQLite's is where the data directory has its own."""
    name = "migrated_postgres" if request.param == "postgresql" else "migrated_sqlite"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def migrated_sqlite(_migrated_sqlite: Path, tmp_path: Path) -> str:
    shutil.copy(_migrated_sqlite, tmp_path / "condery.sqlite")
    return sqlite_url(tmp_path / "condery.sqlite")


@pytest.fixture
def migrated_postgres(postgres: Postgres, _migrated_postgres: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {_migrated_postgres}")
    return postgres.url(name)


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "condery.sqlite"
    migrate(sqlite_url(path))
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(_postgres: Postgres) -> str:
    name = f"migrated_{uuid.uuid4().hex}"
    _postgres.execute(f"CREATE DATABASE {name}")
    migrate(_postgres.url(name))
    return name


@pytest.fixture
async def content(tmp_path: Path, database_url: str) -> AsyncIterator[Content]:
    async with open_content(tmp_path, url=database_url) as opened:
        yield opened
