"""watched files"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NAME = sa.String(length=255).with_variant(sa.String(length=255, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "watched_file",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("environment", NAME, nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("build", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("changed", sa.Float(), nullable=False),
        sa.Column("gone", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_watched_file"),
    )
    op.create_index("ix_watched_file_build", "watched_file", ["build"])
    op.create_index("ix_watched_file_namespace_environment", "watched_file", ["namespace", "environment"])


def downgrade() -> None:
    op.drop_table("watched_file")
