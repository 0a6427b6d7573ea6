"""lists of environments and builds from indexes

Locks get numbers, and a package's row has a bit for each of many locks. Indexes of builds hold all that lists of them
are filtered by.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import sqlalchemy as sa
from alembic import op

from storage.database.tables import NAME

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

ALIVE = sa.text("deleted IS NULL")
BITS = 1024
AT_ONCE = 1000

INDEXES = {
    "environment_id": (["environment", "id"], ["status", "lock_number"]),
    "status_id": (["status", "id"], ["environment", "lock_number"]),
    "id": (["id"], ["environment", "status", "lock_number"]),
    "scheduled": (["scheduled"], ["id", "environment", "status", "lock_number"]),
    "started": (["started"], ["id", "environment", "status", "lock_number"]),
    "ended": (["ended"], ["id", "environment", "status", "lock_number"]),
}
"""What each is about, and what it holds beside that."""

listed_lock = sa.table("listed_lock", sa.column("number"), sa.column("lock_key"))
lock_package = sa.table("lock_package", sa.column("lock_key"), sa.column("name"))
package_locks = sa.table("package_locks", sa.column("name"), sa.column("block"), sa.column("bits", sa.LargeBinary))


def upgrade() -> None:
    op.create_table(
        "listed_lock",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("lock_key", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_listed_lock"),
        sa.UniqueConstraint("lock_key", name="uq_listed_lock_lock_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "package_locks",
        sa.Column("name", NAME, nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("bits", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "block", name="pk_package_locks"),
    )
    op.create_index("ix_package_locks_block", "package_locks", ["block"])
    op.add_column("environment_build", sa.Column("lock_number", sa.Integer(), nullable=True))
    op.execute(
        "INSERT INTO listed_lock (lock_key) SELECT lock_key FROM lock_package UNION "
        "SELECT lock_key FROM environment_build WHERE lock_key IS NOT NULL"
    )
    op.execute(
        "UPDATE environment_build SET lock_number = "
        "(SELECT number FROM listed_lock WHERE listed_lock.lock_key = environment_build.lock_key)"
    )
    _number_packages()
    op.drop_table("lock_package")
    for name, (about, beside) in INDEXES.items():
        _replace(name, [*about, *beside])
    op.create_index(
        "ix_environment_build_lock_number", "environment_build",
        ["lock_number", "environment", "status", "size"],
        sqlite_where=ALIVE, postgresql_where=ALIVE,
    )  # fmt: skip
    op.create_index(
        "ix_environment_name", "environment", ["name", "namespace"], sqlite_where=ALIVE, postgresql_where=ALIVE
    )


def downgrade() -> None:
    op.drop_index("ix_environment_name", "environment")
    op.drop_index("ix_environment_build_lock_number", "environment_build")
    for name, (about, _) in INDEXES.items():
        _replace(name, about)
    op.create_table(
        "lock_package",
        sa.Column("lock_key", sa.String(length=64), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.PrimaryKeyConstraint("lock_key", "name", name="pk_lock_package"),
    )
    op.create_index("ix_lock_package_name", "lock_package", ["name", "lock_key"])
    _name_packages()
    op.drop_column("environment_build", "lock_number")
    op.drop_table("package_locks")
    op.drop_table("listed_lock")


def _replace(name: str, columns: list[str]) -> None:
    op.drop_index(f"ix_environment_build_{name}", "environment_build")
    op.create_index(
        f"ix_environment_build_{name}", "environment_build", columns, sqlite_where=ALIVE, postgresql_where=ALIVE
    )


def _number_packages() -> None:
    connection = op.get_bind()
    held = sa.select(lock_package.c.name, listed_lock.c.number).join(
        listed_lock, listed_lock.c.lock_key == lock_package.c.lock_key
    )
    ordered = held.order_by(lock_package.c.name, listed_lock.c.number)
    rows = []
    # one after the other: there may be millions
    found = connection.execute(ordered, execution_options={"stream_results": True})
    for (name, block), group in groupby(found, key=lambda row: (row.name, row.number // BITS)):
        bits = sum(1 << row.number % BITS for row in group)
        rows.append({"name": name, "block": block, "bits": bits.to_bytes((bits.bit_length() + 7) // 8, "little")})
    _insert(package_locks, rows)


def _name_packages() -> None:
    connection = op.get_bind()
    keys = {row.number: row.lock_key for row in connection.execute(sa.select(listed_lock))}
    for name, block, bits in connection.execute(sa.select(package_locks)).all():
        number = int.from_bytes(bits, "little")
        held = (block * BITS + bit for bit in range(number.bit_length()) if number >> bit & 1)
        _insert(lock_package, ({"lock_key": keys[each], "name": name} for each in held))


def _insert(table: sa.TableClause, rows: Iterable[dict[str, object]]) -> None:
    waiting = list(rows)
    for start in range(0, len(waiting), AT_ONCE):
        op.bulk_insert(table, waiting[start : start + AT_ONCE])
