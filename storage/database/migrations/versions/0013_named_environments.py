"""named environments"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NAME = sa.String(length=255).with_variant(sa.String(length=255, collation="C"), "postgresql")
ALIVE = sa.text("deleted IS NULL")
UNFINISHED = sa.text("status IN ('QUEUED', 'BUILDING')")


def upgrade() -> None:
    op.add_column("namespace", sa.Column("id", sa.Integer(), nullable=True))
    # numbered in the order of their names
    op.execute("UPDATE namespace SET id = (SELECT count(*) FROM namespace AS other WHERE other.name <= namespace.name)")
    op.create_index("ix_namespace_id", "namespace", ["id"])
    op.create_table(
        "specification",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_specification"),
        sa.UniqueConstraint("sha256", name="uq_specification_sha256"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "environment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("repository", NAME, nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("current_build", sa.Integer(), nullable=True),
        sa.Column("last_build", sa.Integer(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("deleted", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_environment"),
        sqlite_autoincrement=True,
    )
    for name, columns in (
        ("uq_environment_alive_name", ["namespace", "name"]),
        ("uq_environment_alive_repository", ["repository"]),
    ):
        op.create_index(name, "environment", columns, unique=True, sqlite_where=ALIVE, postgresql_where=ALIVE)
    op.create_index("ix_environment_current", "environment", ["current_build"])
    op.create_index("ix_environment_deleted", "environment", ["deleted"])
    op.create_table(
        "environment_build",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("environment", sa.Integer(), nullable=False),
        sa.Column("specification", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_info", sa.Text(), nullable=True),
        sa.Column("job_key", sa.String(length=64), nullable=True),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("lock_key", sa.String(length=64), nullable=True),
        sa.Column("image_key", sa.String(length=64), nullable=True),
        sa.Column("same_as", sa.Integer(), nullable=True),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("scheduled", sa.Float(), nullable=False),
        sa.Column("started", sa.Float(), nullable=True),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("pulled", sa.Float(), nullable=True),
        sa.Column("deleted", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["environment"], ["environment.id"], name="fk_environment_build_environment_environment"
        ),
        sa.ForeignKeyConstraint(
            ["specification"], ["specification.id"], name="fk_environment_build_specification_specification"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_environment_build"),
        sqlite_autoincrement=True,
    )
    for name, columns in (
        ("ix_environment_build_specification", ["specification"]),
        ("ix_environment_build_job_key", ["job_key"]),
        ("ix_environment_build_lock_key", ["lock_key"]),
        ("ix_environment_build_deleted", ["deleted"]),
    ):
        op.create_index(name, "environment_build", columns)
    for name, columns in (
        ("ix_environment_build_environment_id", ["environment", "id"]),
        ("ix_environment_build_status_id", ["status", "id"]),
        ("ix_environment_build_id", ["id"]),
        ("ix_environment_build_scheduled", ["scheduled"]),
        ("ix_environment_build_started", ["started"]),
        ("ix_environment_build_ended", ["ended"]),
    ):
        op.create_index(name, "environment_build", columns, sqlite_where=ALIVE, postgresql_where=ALIVE)
    op.create_index(
        "ix_environment_build_unfinished",
        "environment_build",
        ["id"],
        sqlite_where=UNFINISHED,
        postgresql_where=UNFINISHED,
    )
    op.create_table(
        "lock_package",
        sa.Column("lock_key", sa.String(length=64), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.PrimaryKeyConstraint("lock_key", "name", name="pk_lock_package"),
    )
    op.create_index("ix_lock_package_name", "lock_package", ["name", "lock_key"])
    op.create_table(
        "setting",
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("environment", NAME, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "environment", name="pk_setting"),
    )


def downgrade() -> None:
    for table in ("setting", "lock_package", "environment_build", "environment", "specification"):
        op.drop_table(table)
    op.drop_index("ix_namespace_id", "namespace")
    op.drop_column("namespace", "id")
