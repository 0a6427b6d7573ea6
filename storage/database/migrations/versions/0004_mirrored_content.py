"""copies of other registries' content"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
DIGEST = sa.String(140).with_variant(sa.String(140, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "mirrored_manifest",
        sa.Column("repository", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("pulled", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "digest"],
            ["repository_manifest.repository", "repository_manifest.digest"],
            name="fk_mirrored_manifest_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository", "digest", name=op.f("pk_mirrored_manifest")),
    )
    with op.batch_alter_table("mirrored_manifest", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_mirrored_manifest_pulled"), ["pulled"], unique=False)

    op.create_table(
        "mirrored_blob",
        sa.Column("repository", NAME, nullable=False),
        sa.Column("manifest", DIGEST, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "manifest"],
            ["mirrored_manifest.repository", "mirrored_manifest.digest"],
            name="fk_mirrored_blob_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository", "manifest", "digest", name=op.f("pk_mirrored_blob")),
    )
    with op.batch_alter_table("mirrored_blob", schema=None) as batch_op:
        batch_op.create_index("ix_mirrored_blob_digest", ["repository", "digest"], unique=False)


def downgrade() -> None:
    op.drop_table("mirrored_blob")
    op.drop_table("mirrored_manifest")
