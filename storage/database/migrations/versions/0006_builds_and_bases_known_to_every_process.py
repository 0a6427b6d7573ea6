"""builds and bases known to every process"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DIGEST = sa.String(140).with_variant(sa.String(140, collation="C"), "postgresql")


def upgrade() -> None:
    # unknown for builds that ended before this revision; their results are found by name, as before
    op.add_column("build", sa.Column("made", sa.String(length=64), nullable=True))
    op.add_column("build", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "base_pin",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_base_pin")),
    )
    op.create_table(
        "base_image",
        sa.Column("pin", sa.String(length=64), nullable=False),
        sa.Column("platform", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pin"], ["base_pin.key"], name=op.f("fk_base_image_pin"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pin", "platform", name=op.f("pk_base_image")),
    )


def downgrade() -> None:
    op.drop_table("base_image")
    op.drop_table("base_pin")
    op.drop_column("build", "priority")
    op.drop_column("build", "made")
