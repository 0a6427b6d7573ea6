"""indexes of deleted environments and builds hold those alone

SQLite took them for what is not deleted, which is nearly all, and sorted that by itself.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

GONE = sa.text("deleted IS NOT NULL")


def upgrade() -> None:
    for table in ("environment", "environment_build"):
        op.drop_index(f"ix_{table}_deleted", table)
        op.create_index(f"ix_{table}_deleted", table, ["deleted"], sqlite_where=GONE, postgresql_where=GONE)


def downgrade() -> None:
    for table in ("environment", "environment_build"):
        op.drop_index(f"ix_{table}_deleted", table)
        op.create_index(f"ix_{table}_deleted", table, ["deleted"])
