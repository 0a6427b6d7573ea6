"""The tests' PostgreSQL: separate databases, restarts and crashes."""

from __future__ import annotations

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from tests.support.servers.postgres import Postgres

pytestmark = pytest.mark.services


def answer(url: str, *statements: str) -> list[object]:
    """The first column of the last statement's result."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(sqlalchemy.text(statement))
        return list(result.scalars())


def test_a_query_is_answered(postgres_url: str) -> None:
    [version] = answer(postgres_url, "SELECT version()")
    assert str(version).startswith("PostgreSQL")


def test_every_database_is_new(postgres: Postgres) -> None:
    one, two = postgres.new_database(), postgres.new_database()
    answer(one, "CREATE TABLE a (b text)", "SELECT 1")
    assert answer(one, "SELECT count(*) FROM pg_tables WHERE tablename = 'a'") == [1]
    assert answer(two, "SELECT count(*) FROM pg_tables WHERE tablename = 'a'") == [0]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_was_committed_outlives_a_restart(postgres: Postgres, postgres_url: str, end: str) -> None:
    answer(postgres_url, "CREATE TABLE a (b text)", "INSERT INTO a VALUES ('kept') RETURNING b")
    getattr(postgres, end)()
    with pytest.raises(OperationalError):
        answer(postgres_url, "SELECT 1")
    postgres.start()
    assert answer(postgres_url, "SELECT b FROM a") == ["kept"]


def test_a_restart_ends_open_connections(postgres: Postgres, postgres_url: str) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))
        postgres.restart()
        with pytest.raises(OperationalError):
            connection.execute(sqlalchemy.text("SELECT 1"))
    engine.dispose()


def test_a_run_may_have_settings_of_its_own(postgres: Postgres, postgres_url: str) -> None:
    assert answer(postgres_url, "SHOW fsync") == ["off"]
    postgres.restart(fsync="on")
    assert answer(postgres_url, "SHOW fsync") == ["on"]
    postgres.restart()


def test_text_is_not_in_the_order_of_its_bytes(postgres_url: str) -> None:
    """A query that forgets to sort by bytes therefore fails a test."""
    assert answer(postgres_url, "SELECT x FROM (VALUES ('a'), ('B')) AS v(x) ORDER BY x") == ["a", "B"]
