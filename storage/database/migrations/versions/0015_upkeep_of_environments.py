"""upkeep of environments"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("environment", sa.Column("resolved", sa.Float(), nullable=True))
    op.create_table(
        "environment_alarm",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["build"],
            ["environment_build.id"],
            name="fk_environment_alarm_build_environment_build",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("build", name="pk_environment_alarm"),
    )


def downgrade() -> None:
    op.drop_table("environment_alarm")
    op.drop_column("environment", "resolved")
