"""quotas of namespaces"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("namespace", sa.Column("quota", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("namespace", "quota")
