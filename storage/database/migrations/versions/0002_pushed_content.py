"""pushed content, blobs by objects, upload sessions, notifications"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
TAG = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
DIGEST = sa.String(140).with_variant(sa.String(140, collation="C"), "postgresql")


def upgrade() -> None:
    # images name blobs that had no rows; their locks stay, and the same images are made again on request
    for table in ("artifact", "image", "manifest"):
        op.drop_table(table)
    op.create_table(
        "blob",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("parts", sa.Text(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.CheckConstraint("(key IS NULL) <> (parts IS NULL)", name=op.f("ck_blob_is_object_or_join")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blob")),
        sa.UniqueConstraint("key", name=op.f("uq_blob_key")),
    )
    with op.batch_alter_table("blob", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blob_used"), ["used"], unique=False)

    op.create_table(
        "event",
        sa.Column("endpoint", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "id", name=op.f("pk_event")),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    op.create_table(
        "image",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("lock_key", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_image")),
    )
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_image_lock_key"), ["lock_key"], unique=False)
        batch_op.create_index(batch_op.f("ix_image_used"), ["used"], unique=False)

    op.create_table(
        "manifest",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_manifest")),
    )
    op.create_table(
        "pending",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_pending")),
    )
    with op.batch_alter_table("pending", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pending_expires"), ["expires"], unique=False)

    op.create_table(
        "repository",
        sa.Column("name", NAME, nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_repository")),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("repository", NAME, nullable=False),
        sa.Column("principal", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("touched", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
    )
    with op.batch_alter_table("upload", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_upload_touched"), ["touched"], unique=False)

    op.create_table(
        "artifact",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("lock_key", sa.String(length=64), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blob.digest"], name=op.f("fk_artifact_digest")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_artifact")),
    )
    with op.batch_alter_table("artifact", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifact_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifact_lock_key"), ["lock_key"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifact_used"), ["used"], unique=False)

    op.create_table(
        "fragment_use",
        sa.Column("fragment", sa.String(length=64), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blob.digest"], name=op.f("fk_fragment_use_digest"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("fragment", "digest", name=op.f("pk_fragment_use")),
    )
    with op.batch_alter_table("fragment_use", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_fragment_use_digest"), ["digest"], unique=False)

    op.create_table(
        "layer",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("diff_id", DIGEST, nullable=False),
        sa.Column("uncompressed_size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blob.digest"], name=op.f("fk_layer_digest"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_layer")),
    )
    with op.batch_alter_table("layer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_layer_digest"), ["digest"], unique=False)

    op.create_table(
        "link",
        sa.Column("repository", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blob.digest"], name=op.f("fk_link_digest")),
        sa.ForeignKeyConstraint(["repository"], ["repository.name"], name=op.f("fk_link_repository")),
        sa.PrimaryKeyConstraint("repository", "digest", name=op.f("pk_link")),
    )
    with op.batch_alter_table("link", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_link_created"), ["created"], unique=False)
        batch_op.create_index(batch_op.f("ix_link_digest"), ["digest"], unique=False)

    op.create_table(
        "repository_manifest",
        sa.Column("repository", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("media_type", sa.String(length=255), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("artifact_type", sa.String(length=255), nullable=True),
        sa.Column("annotations", sa.Text(), nullable=True),
        sa.Column("subject", DIGEST, nullable=True),
        sa.Column("pushed", sa.Float(), nullable=False),
        sa.Column("untagged", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["digest"], ["manifest.digest"], name=op.f("fk_repository_manifest_digest")),
        sa.ForeignKeyConstraint(["repository"], ["repository.name"], name=op.f("fk_repository_manifest_repository")),
        sa.PrimaryKeyConstraint("repository", "digest", name=op.f("pk_repository_manifest")),
    )
    with op.batch_alter_table("repository_manifest", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_repository_manifest_digest"), ["digest"], unique=False)
        batch_op.create_index("ix_repository_manifest_subject", ["repository", "subject", "digest"], unique=False)
        batch_op.create_index("ix_repository_manifest_untagged", ["untagged"], unique=False)

    op.create_table(
        "upload_part",
        sa.Column("upload", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["upload"], ["upload.id"], name=op.f("fk_upload_part_upload"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("upload", "position", name=op.f("pk_upload_part")),
    )
    op.create_table(
        "manifest_blob",
        sa.Column("repository", NAME, nullable=False),
        sa.Column("manifest", DIGEST, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "digest"], ["link.repository", "link.digest"], name="fk_manifest_blob_link"
        ),
        sa.ForeignKeyConstraint(
            ["repository", "manifest"],
            ["repository_manifest.repository", "repository_manifest.digest"],
            name="fk_manifest_blob_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository", "manifest", "digest", name=op.f("pk_manifest_blob")),
    )
    with op.batch_alter_table("manifest_blob", schema=None) as batch_op:
        batch_op.create_index("ix_manifest_blob_link", ["repository", "digest"], unique=False)

    op.create_table(
        "manifest_child",
        sa.Column("repository", NAME, nullable=False),
        sa.Column("manifest", DIGEST, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "manifest"],
            ["repository_manifest.repository", "repository_manifest.digest"],
            name="fk_manifest_child_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository", "manifest", "digest", name=op.f("pk_manifest_child")),
    )
    with op.batch_alter_table("manifest_child", schema=None) as batch_op:
        batch_op.create_index("ix_manifest_child_digest", ["repository", "digest"], unique=False)

    op.create_table(
        "tag",
        sa.Column("repository", NAME, nullable=False),
        sa.Column("name", TAG, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("updated", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "digest"],
            ["repository_manifest.repository", "repository_manifest.digest"],
            name="fk_tag_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository", "name", name=op.f("pk_tag")),
    )
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.create_index("ix_tag_digest", ["repository", "digest"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("what was pushed has no place in the older tables; restore a backup instead")
