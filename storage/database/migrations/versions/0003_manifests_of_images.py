"""which manifests an image keeps"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DIGEST = sa.String(140).with_variant(sa.String(140, collation="C"), "postgresql")


def upgrade() -> None:
    # the manifests of existing images are unknown; their locks stay, and the same images are made again on request
    op.execute("DELETE FROM image")
    op.create_table(
        "image_manifest",
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(["image"], ["image.key"], name=op.f("fk_image_manifest_image"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image", "digest", name=op.f("pk_image_manifest")),
    )
    with op.batch_alter_table("image_manifest", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_image_manifest_digest"), ["digest"], unique=False)


def downgrade() -> None:
    op.drop_table("image_manifest")
