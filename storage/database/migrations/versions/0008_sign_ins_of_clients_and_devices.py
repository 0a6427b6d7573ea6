"""sign-ins of clients and devices"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sign_in", sa.Column("client", sa.String(length=64), server_default="", nullable=False))
    op.add_column("sign_in", sa.Column("code", sa.String(length=64), nullable=True))
    op.create_index("ix_sign_in_kind_client", "sign_in", ["kind", "client"], unique=False)
    op.create_index("uq_sign_in_code", "sign_in", ["code"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_sign_in_code", table_name="sign_in")
    op.drop_index("ix_sign_in_kind_client", table_name="sign_in")
    op.drop_column("sign_in", "code")
    op.drop_column("sign_in", "client")
