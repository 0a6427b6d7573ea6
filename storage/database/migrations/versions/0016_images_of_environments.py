"""images of environments"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

DIGEST = sa.String(length=140).with_variant(sa.String(length=140, collation="C"), "postgresql")
KEPT = "SELECT image_key FROM environment_build WHERE deleted IS NULL AND image_key IS NOT NULL"


def upgrade() -> None:
    op.create_table(
        "environment_image",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_environment_image"),
    )
    op.create_table(
        "environment_manifest",
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(
            ["image"],
            ["environment_image.key"],
            name="fk_environment_manifest_image_environment_image",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("image", "digest", name="pk_environment_manifest"),
    )
    op.create_index("ix_environment_manifest_digest", "environment_manifest", ["digest"])
    op.create_index("ix_environment_build_image_key", "environment_build", ["image_key"])
    op.execute(f"INSERT INTO environment_image SELECT key, document FROM image WHERE key IN ({KEPT})")  # noqa: S608 - ours
    op.execute(
        "INSERT INTO environment_manifest SELECT image, digest FROM image_manifest "
        "WHERE image IN (SELECT key FROM environment_image)"
    )


def downgrade() -> None:
    op.drop_index("ix_environment_build_image_key", "environment_build")
    op.drop_table("environment_manifest")
    op.drop_table("environment_image")
