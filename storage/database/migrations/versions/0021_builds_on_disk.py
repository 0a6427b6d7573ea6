"""builds on disk"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "environment_directory",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("since", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["build"], ["environment_build.id"], name="fk_environment_directory_build", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("build", name="pk_environment_directory"),
    )


def downgrade() -> None:
    op.drop_table("environment_directory")
