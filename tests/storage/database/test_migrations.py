"""Stores of older versions: what is in them is there after the upgrade."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from storage.catalog.builds import Builds
from storage.database import tables
from storage.database.engine import NEWEST, Database, migrate, migrations, sqlite_url
from storage.digest import Digest
from storage.environments.lists.builds import find_page
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import BuildFilter, Paging
from storage.events.changes import Changes
from storage.repositories.pushed import Repositories

SUBJECT = Digest.of(b"subject")
LONG = {"note": "x" * 100_000}
SHORT = {"note": "y"}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "old.sqlite")
    url: str = request.getfixturevalue("postgres_url")
    return url


def fill_at(url: str, revision: str, statements: list[tuple[str, dict[str, object]]]) -> None:
    """A database as `revision` has it, with rows."""
    from alembic import command

    engine = create_engine(url.replace("+aiosqlite", ""))
    with engine.connect() as connection:
        command.upgrade(migrations(connection), revision)
        for statement, values in statements:
            connection.execute(text(statement), values)
        connection.commit()
    engine.dispose()


async def test_from_before_what_gives_way(empty_url: str, tmp_path: Path) -> None:
    rows: list[tuple[str, dict[str, object]]] = [
        ("INSERT INTO lock VALUES (:key, 's', :document, 5.0)", {"key": "made", "document": '{"a": 1}'}),
        ("INSERT INTO lock VALUES (:key, 's', :document, 6.0)", {"key": "solved", "document": "{}"}),
        ("INSERT INTO image VALUES ('i', 'made', '{}', 7.0, 8.0)", {}),
        ("INSERT INTO repository VALUES ('a', 1.0)", {}),
    ]
    for name, subject, notes in (
        ("long", SUBJECT, LONG), ("short", SUBJECT, SHORT), ("none", SUBJECT, {}), ("tagged", None, LONG),
    ):  # fmt: skip
        body = json.dumps({"name": name, "annotations": notes}).encode()
        digest = Digest.of(body)
        rows.append(("INSERT INTO manifest VALUES (:digest, :body, 1.0)", {"digest": digest, "body": body}))
        rows.append(
            (
                "INSERT INTO repository_manifest VALUES "
                "('a', :digest, 'm', :size, NULL, :annotations, :subject, 1.0, 1.0)",
                {
                    "digest": digest,
                    "size": len(body),
                    "annotations": json.dumps(notes) if notes else None,
                    "subject": subject,
                },
            )
        )
    fill_at(empty_url, "0004", rows)
    migrate(empty_url)
    database = Database.open(empty_url)
    try:
        async with database.reading() as connection:
            locks = {row.key: row for row in await connection.execute(tables.lock.select())}
            kept = [row.annotations for row in await connection.execute(tables.repository_manifest.select())]
        assert (locks["made"].used, locks["made"].size, locks["made"].pinned) == (8.0, 8, False)
        assert (locks["solved"].used, locks["solved"].size) == (6.0, 2)
        assert sum(len(each or "") for each in kept) < 100
        repositories = Repositories(database, Changes(tmp_path / "changes"))
        page = await repositories.referrers("a", SUBJECT, None, None, 10)
        found = sorted((each.descriptor.annotations for each in page.items), key=str)
        assert found == sorted([LONG, SHORT, {}], key=str)
    finally:
        await database.close()


def test_the_newest_revision_is_the_last_script() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == NEWEST


async def test_builds_of_before_they_recorded_what_they_made(empty_url: str) -> None:
    from alembic import command

    row = "'b', 'k', '{}', 'COMPLETED', 'host/1/2', 1.0, 1, 1.0, 2.0, NULL, NULL, NULL"
    fill_at(empty_url, "0005", [(f"INSERT INTO build VALUES ({row})", {})])
    migrate(empty_url)
    engine = create_engine(empty_url.replace("+aiosqlite", ""))
    with engine.connect() as connection:
        assert list(connection.execute(text("SELECT id, made, priority FROM build"))) == [("b", None, 0)]
        connection.rollback()
        command.downgrade(migrations(connection), "0005")
        connection.commit()
        assert "made" not in {column["name"] for column in inspect(connection).get_columns("build")}
        assert not inspect(connection).has_table("base_pin")
    engine.dispose()
    migrate(empty_url)
    database = Database.open(empty_url)
    try:
        found = await Builds(database).find("b")
        assert found is not None
        assert (found.made, found.owner, found.ended) == (None, "host/1/2", 2.0)
    finally:
        await database.close()


async def test_upload_sessions_of_before_they_belonged_to_accounts(empty_url: str) -> None:
    """Pushes that are under way go on, and a name that is no account's stays."""
    from alembic import command

    account = "INSERT INTO account (id, kind, name, created) VALUES ('a1', 'person', 'alice', 1.0)"
    session = (
        "INSERT INTO upload (id, repository, principal, size, parts, created, touched) "
        "VALUES (:id, 'team/app', :principal, 0, 0, 1.0, 1.0)"
    )
    owners = {"of alice": "alice", "of nobody": "anonymous", "of a workload": "github/team/app"}
    rows: list[tuple[str, dict[str, object]]] = [(account, {})]
    rows += [(session, {"id": name, "principal": owner}) for name, owner in owners.items()]
    fill_at(empty_url, "0011", rows)
    migrate(empty_url)
    engine = create_engine(empty_url.replace("+aiosqlite", ""))
    with engine.connect() as connection:

        def read() -> dict[str, str]:
            return {row.id: row.principal for row in connection.execute(text("SELECT id, principal FROM upload"))}

        assert read() == {**owners, "of alice": "a1"}
        connection.rollback()
        command.downgrade(migrations(connection), "0011")
        assert read() == owners
    engine.dispose()


async def test_builds_of_environments_of_before_they_kept_their_images(empty_url: str) -> None:
    key = "k" * 64
    rows: list[tuple[str, dict[str, object]]] = [
        ("INSERT INTO image VALUES (:key, 'l', '{}', 1.0, 1.0)", {"key": key}),
        ("INSERT INTO image_manifest VALUES (:key, 'sha256:m')", {"key": key}),
        ("INSERT INTO specification VALUES (1, 's', 'n', '{}', '{}', 1.0)", {}),
        ("INSERT INTO environment (id, namespace, name, repository, created, created_by) "
         "VALUES (1, 'team', 'science', 'team/science', 1.0, 'ann')", {}),
        ("INSERT INTO environment_build (id, environment, specification, status, cause, image_key, scheduled, "
         "created_by) VALUES (1, 1, 1, 'COMPLETED', 'REQUEST', :key, 1.0, 'ann')", {"key": key}),
    ]  # fmt: skip
    fill_at(empty_url, "0015", rows)
    migrate(empty_url)
    downgrade(empty_url, "0012")
    fill_at(empty_url, "0015", rows[2:])
    migrate(empty_url)
    database = Database.open(empty_url)
    try:
        async with database.reading() as connection:
            kept = (await connection.execute(text("SELECT key, document FROM environment_image"))).all()
            manifests = (await connection.execute(text("SELECT image, digest FROM environment_manifest"))).all()
        assert (kept, manifests) == ([(key, "{}")], [(key, "sha256:m")])
    finally:
        await database.close()


async def test_packages_of_locks_of_before_locks_had_numbers(empty_url: str) -> None:
    held = [("a" * 64, "numpy"), ("a" * 64, "python"), ("b" * 64, "python"), ("c" * 64, "zlib")]
    rows: list[tuple[str, dict[str, object]]] = [
        ("INSERT INTO specification VALUES (1, 's', 'n', '{}', '{}', 1.0)", {}),
        ("INSERT INTO environment (id, namespace, name, repository, created, created_by, current_build) "
         "VALUES (1, 'team', 'science', 'team/science', 1.0, 'ann', 1)", {}),
        ("INSERT INTO namespace (name, created, created_by) VALUES ('team', 1.0, 'ann')", {}),
    ]  # fmt: skip
    for number, key in enumerate(("a" * 64, "b" * 64, None), start=1):
        rows.append((
            "INSERT INTO environment_build (id, environment, specification, status, cause, lock_key, scheduled, "
            "created_by) VALUES (:id, 1, 1, 'COMPLETED', 'REQUEST', :key, 1.0, 'ann')", {"id": number, "key": key},
        ))  # fmt: skip
    rows += [("INSERT INTO lock_package VALUES (:key, :name)", {"key": key, "name": name}) for key, name in held]
    fill_at(empty_url, "0018", rows)
    for _ in range(2):
        migrate(empty_url)
        database = Database.open(empty_url)
        try:
            async with database.reading() as connection:
                for packages, ids in ((("python",), [1, 2]), (("python", "numpy"), [1]), (("zlib",), [])):
                    page = await find_page(connection, Scope(), BuildFilter(packages=packages), Paging())
                    assert page == (ids, len(ids)), packages
        finally:
            await database.close()
        downgrade(empty_url, "0018")
        engine = create_engine(empty_url.replace("+aiosqlite", ""))
        with engine.connect() as connection:
            found = connection.execute(text("SELECT lock_key, name FROM lock_package ORDER BY lock_key, name"))
            assert [tuple(row) for row in found] == held
        engine.dispose()


async def test_specifications_of_before_they_belonged_to_one_environment(empty_url: str) -> None:
    """Each environment gets a row of its own, as old as its first build; what nothing is built of goes."""
    environment = (
        "INSERT INTO environment (id, namespace, name, repository, created, created_by) "
        "VALUES (:id, :namespace, 'e', :repository, 1.0, 'ann')"
    )
    build = (
        "INSERT INTO environment_build (id, environment, specification, status, cause, scheduled, created_by) "
        "VALUES (:id, :environment, :specification, 'COMPLETED', 'REQUEST', :scheduled, 'ann')"
    )
    rows: list[tuple[str, dict[str, object]]] = [
        (
            "INSERT INTO specification (sha256, name, document, request, created) "
            "VALUES (:sha256, 'e', '{}', '{}', :created)",
            {"sha256": f"s{number}", "created": float(number)},
        )
        for number in (1, 2, 3)
    ]
    rows += [
        (environment, {"id": number, "namespace": f"n{number}", "repository": f"n{number}/e"}) for number in (1, 2)
    ]
    uses = [(1, 1, 1, 5.0), (2, 2, 1, 9.0), (3, 2, 1, 8.0), (4, 1, 2, 7.0)]
    for number, owner, specified, at in uses:
        rows.append((build, {"id": number, "environment": owner, "specification": specified, "scheduled": at}))
    fill_at(empty_url, "0018", rows)
    migrate(empty_url)
    query = text(
        "SELECT b.id, s.environment, s.sha256, s.created, s.id AS specification FROM environment_build AS b "
        "JOIN specification AS s ON s.id = b.specification ORDER BY b.id"
    )
    engine = create_engine(empty_url.replace("+aiosqlite", ""))
    with engine.connect() as connection:
        found = connection.execute(query).all()
        assert [tuple(row)[:4] for row in found] == [
            (1, 1, "s1", 1.0), (2, 2, "s1", 8.0), (3, 2, "s1", 8.0), (4, 1, "s2", 2.0),
        ]  # fmt: skip
        assert found[1].specification == found[2].specification > 3
        assert connection.execute(text("SELECT count(*) FROM specification")).scalar() == 3
        connection.rollback()
    engine.dispose()
    downgrade(empty_url, "0018")
    with engine.connect() as connection:
        again = text("SELECT id, specification FROM environment_build ORDER BY id")
        assert [tuple(row) for row in connection.execute(again)] == [(1, 1), (2, 1), (3, 1), (4, 2)]
    engine.dispose()
    migrate(empty_url)


def downgrade(url: str, revision: str) -> None:
    from alembic import command

    engine = create_engine(url.replace("+aiosqlite", ""))
    with engine.connect() as connection:
        command.downgrade(migrations(connection), revision)
        connection.commit()
    engine.dispose()
