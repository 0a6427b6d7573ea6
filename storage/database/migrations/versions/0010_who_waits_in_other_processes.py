"""who waits for builds in other processes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("build", sa.Column("waiter", sa.String(length=255), server_default="", nullable=False))
    op.add_column("build", sa.Column("waited", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("build", "waited")
    op.drop_column("build", "waiter")
