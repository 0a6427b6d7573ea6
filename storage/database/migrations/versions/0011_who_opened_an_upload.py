"""who opened an upload"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("upload", sa.Column("opener", sa.String(length=255), server_default="", nullable=False))
    op.create_index("ix_upload_opener", "upload", ["opener"])


def downgrade() -> None:
    op.drop_index("ix_upload_opener", "upload")
    op.drop_column("upload", "opener")
