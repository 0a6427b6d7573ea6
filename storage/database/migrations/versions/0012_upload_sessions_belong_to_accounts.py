"""upload sessions belong to accounts, and no longer to whoever has the account's name"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE upload SET principal = (SELECT account.id FROM account WHERE account.name = upload.principal) "
        "WHERE principal IN (SELECT name FROM account)"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE upload SET principal = (SELECT account.name FROM account WHERE account.id = upload.principal) "
        "WHERE principal IN (SELECT id FROM account)"
    )
