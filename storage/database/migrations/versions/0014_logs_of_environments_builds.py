"""logs of environments' builds"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

DIGEST = sa.String(length=140).with_variant(sa.String(length=140, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "environment_log",
        sa.Column("build", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ended", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("written", sa.Float(), nullable=False),
        sa.Column("digest", DIGEST, nullable=True),
        sa.ForeignKeyConstraint(["digest"], ["blob.digest"], name=op.f("fk_environment_log_digest")),
        sa.PrimaryKeyConstraint("build", name=op.f("pk_environment_log")),
    )
    op.create_index(op.f("ix_environment_log_digest"), "environment_log", ["digest"])
    op.create_index(
        "ix_environment_log_unkept",
        "environment_log",
        ["written"],
        sqlite_where=sa.text("digest IS NULL"),
        postgresql_where=sa.text("digest IS NULL"),
    )
    op.create_table(
        "environment_log_piece",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["build"], ["environment_log.build"], name=op.f("fk_environment_log_piece_build"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("build", "position", name=op.f("pk_environment_log_piece")),
    )


def downgrade() -> None:
    op.drop_table("environment_log_piece")
    op.drop_index("ix_environment_log_unkept", table_name="environment_log")
    op.drop_index(op.f("ix_environment_log_digest"), table_name="environment_log")
    op.drop_table("environment_log")
