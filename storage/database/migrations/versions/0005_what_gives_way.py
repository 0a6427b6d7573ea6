"""what gives way when there is no room"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
LONGEST_ANNOTATIONS = 32 << 10


def upgrade() -> None:
    op.add_column("lock", sa.Column("size", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("lock", sa.Column("used", sa.Float(), nullable=True))
    op.add_column("lock", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    # which locks had images or files that were collected is unknown: count all as used at their last known time
    op.execute(
        "UPDATE lock SET size = length(document), used = coalesce("
        "(SELECT max(image.used) FROM image WHERE image.lock_key = lock.key), created)"
    )
    op.create_index("ix_lock_age", "lock", ["pinned", "used", "created", "key"])
    op.create_index("ix_resolution_lock_key", "resolution", ["lock_key"])
    op.create_index("ix_resolution_solved", "resolution", ["solved"])
    op.create_index("ix_build_ended", "build", ["ended"])
    op.add_column("pending", sa.Column("repository", NAME, nullable=True))
    op.add_column("pending", sa.Column("size", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("pending", sa.Column("held_until", sa.Float(), nullable=True))
    op.create_index("ix_pending_repository", "pending", ["repository"])
    op.add_column("link", sa.Column("released", sa.Float(), nullable=True))
    # the manifest's body has them
    op.execute("UPDATE repository_manifest SET annotations = NULL WHERE subject IS NULL")
    op.execute(
        f"UPDATE repository_manifest SET annotations = '' WHERE length(annotations) > {LONGEST_ANNOTATIONS}"  # noqa: S608 - a number of ours
    )


def downgrade() -> None:
    raise NotImplementedError("the annotations that were left out are in no table; restore a backup instead")
