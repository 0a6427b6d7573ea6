"""The database's tables. Times are UNIX seconds, documents are JSON text, and keys are 64 hex digits."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# PostgreSQL would sort by its locale; the specification wants tags sorted by code point
NAME = String(255).with_variant(String(255, collation="C"), "postgresql")
TAG = String(128).with_variant(String(128, collation="C"), "postgresql")
DIGEST = String(140).with_variant(String(140, collation="C"), "postgresql")

# builds

manifest = Table(
    "manifest",
    metadata,
    Column("digest", DIGEST, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
)

lock = Table(
    "lock",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("spec_key", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("size", Integer, nullable=False, server_default="0"),
    Column("created", Float, nullable=False),
    # when something made from it was last requested; null if nothing was ever made
    Column("used", Float),
    # whether it was ever requested by its own tag
    Column("pinned", Boolean, nullable=False, server_default=false()),
    Index("ix_lock_age", "pinned", "used", "created", "key"),
)

resolution = Table(
    "resolution",
    metadata,
    # of the spec with its cut-off date: what a tag that does not begin with lock- means
    Column("request_key", String(64), primary_key=True),
    Column("spec_key", String(64), nullable=False, index=True),
    Column("until", String(10)),
    Column("lock_key", String(64), nullable=False, index=True),
    Column("solved", Float, nullable=False, index=True),
)

image = Table(
    "image",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("lock_key", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("used", Float, nullable=False, index=True),
)

image_manifest = Table(
    "image_manifest",
    metadata,
    # an image keeps these, since no tag leads to them
    Column("image", String(64), ForeignKey("image.key", ondelete="CASCADE"), primary_key=True),
    Column("digest", DIGEST, primary_key=True, index=True),
)

artifact = Table(
    "artifact",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("lock_key", String(64), nullable=False, index=True),
    Column("digest", DIGEST, ForeignKey("blob.digest"), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("used", Float, nullable=False, index=True),
)

UNFINISHED = "status IN ('QUEUED', 'BUILDING')"

build = Table(
    "build",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("key", String(64), nullable=False),
    Column("request", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("heartbeat", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("ended", Float, index=True),
    Column("error_kind", String(64)),
    Column("error_message", Text),
    Column("error_transient", Boolean),
    # the key of the image or file that the build made
    Column("made", String(64)),
    Column("priority", Integer, nullable=False, server_default="0"),
    # who waits for it in another process than its owner's: the name of somebody signed in, or else empty; and when the
    # other process last said so
    Column("waiter", String(255), nullable=False, server_default=""),
    Column("waited", Float),
    # at most one unfinished build per key, in whichever process or on whichever machine
    Index(
        "uq_build_unfinished_key", "key", unique=True, sqlite_where=text(UNFINISHED), postgresql_where=text(UNFINISHED)
    ),
    Index("ix_build_key_created", "key", "created"),
)

base_pin = Table(
    "base_pin",
    metadata,
    # of a base's reference; the digest is what its tag meant when the first process resolved it
    Column("key", String(64), primary_key=True),
    Column("reference", Text, nullable=False),
    Column("digest", DIGEST, nullable=False),
    Column("created", Float, nullable=False),
)

base_image = Table(
    "base_image",
    metadata,
    # the facts about a pinned base, so that they are not fetched again
    Column("pin", String(64), ForeignKey("base_pin.key", ondelete="CASCADE"), primary_key=True),
    Column("platform", String(64), primary_key=True),
    Column("document", Text, nullable=False),
)

# bytes

pending = Table(
    "pending",
    metadata,
    # an object being written or to be deleted: it belongs to nobody, and nobody may claim it after `expires`
    Column("key", String(64), primary_key=True),
    Column("expires", Float, nullable=False, index=True),
    # for bytes that are coming to a repository with a quota: how many it counts for them, and until when
    Column("repository", NAME, index=True),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("held_until", Float),
)

blob = Table(
    "blob",
    metadata,
    Column("digest", DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    # the place of its bytes: an object, or the parts of a join (a JSON document)
    Column("key", String(64), unique=True),
    Column("parts", Text),
    Column("created", Float, nullable=False),
    # when something last needed it
    Column("used", Float, nullable=False, index=True),
    CheckConstraint("(key IS NULL) <> (parts IS NULL)", name="is_object_or_join"),
)

fragment_use = Table(
    "fragment_use",
    metadata,
    Column("fragment", String(64), primary_key=True),
    Column("digest", DIGEST, ForeignKey("blob.digest", ondelete="CASCADE"), primary_key=True, index=True),
)

layer = Table(
    "layer",
    metadata,
    # of the fragments that it consists of
    Column("key", String(64), primary_key=True),
    Column("digest", DIGEST, ForeignKey("blob.digest", ondelete="CASCADE"), nullable=False, index=True),
    Column("diff_id", DIGEST, nullable=False),
    Column("uncompressed_size", BigInteger, nullable=False),
)

# repositories

repository = Table(
    "repository",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("created", Float, nullable=False),
)

link = Table(
    "link",
    metadata,
    # this row alone makes a blob visible to a repository's clients
    Column("repository", NAME, ForeignKey("repository.name"), primary_key=True),
    Column("digest", DIGEST, ForeignKey("blob.digest"), primary_key=True, index=True),
    Column("created", Float, nullable=False, index=True),
    # when it became free to go if room is needed: its push was refused, or the last manifest that named it was deleted
    Column("released", Float),
)

repository_manifest = Table(
    "repository_manifest",
    metadata,
    Column("repository", NAME, ForeignKey("repository.name"), primary_key=True),
    Column("digest", DIGEST, ForeignKey("manifest.digest"), primary_key=True, index=True),
    Column("media_type", String(255), nullable=False),
    Column("size", Integer, nullable=False),
    Column("artifact_type", String(255)),
    # for a manifest with a subject: a copy, or an empty text if they are too long to be copied
    Column("annotations", Text),
    Column("subject", DIGEST),
    Column("pushed", Float, nullable=False),
    # when the last tag went; null while a tag leads to it
    Column("untagged", Float),
    Index("ix_repository_manifest_subject", "repository", "subject", "digest"),
    Index("ix_repository_manifest_untagged", "untagged"),
)

manifest_blob = Table(
    "manifest_blob",
    metadata,
    Column("repository", NAME, primary_key=True),
    Column("manifest", DIGEST, primary_key=True),
    Column("digest", DIGEST, primary_key=True),
    ForeignKeyConstraint(
        ["repository", "manifest"],
        ["repository_manifest.repository", "repository_manifest.digest"],
        ondelete="CASCADE",
        name="fk_manifest_blob_manifest",
    ),
    ForeignKeyConstraint(["repository", "digest"], ["link.repository", "link.digest"], name="fk_manifest_blob_link"),
    Index("ix_manifest_blob_link", "repository", "digest"),
)

manifest_child = Table(
    "manifest_child",
    metadata,
    Column("repository", NAME, primary_key=True),
    Column("manifest", DIGEST, primary_key=True),
    # may be missing: an index may name manifests that were never pushed here
    Column("digest", DIGEST, primary_key=True),
    ForeignKeyConstraint(
        ["repository", "manifest"],
        ["repository_manifest.repository", "repository_manifest.digest"],
        ondelete="CASCADE",
        name="fk_manifest_child_manifest",
    ),
    Index("ix_manifest_child_digest", "repository", "digest"),
)

tag = Table(
    "tag",
    metadata,
    Column("repository", NAME, primary_key=True),
    Column("name", TAG, primary_key=True),
    Column("digest", DIGEST, nullable=False),
    Column("updated", Float, nullable=False),
    ForeignKeyConstraint(
        ["repository", "digest"],
        ["repository_manifest.repository", "repository_manifest.digest"],
        ondelete="CASCADE",
        name="fk_tag_manifest",
    ),
    Index("ix_tag_digest", "repository", "digest"),
)

# copies of other registries' content

mirrored_manifest = Table(
    "mirrored_manifest",
    metadata,
    Column("repository", NAME, primary_key=True),
    Column("digest", DIGEST, primary_key=True),
    # when a client last requested it; updated now and then
    Column("pulled", Float, nullable=False, index=True),
    ForeignKeyConstraint(
        ["repository", "digest"],
        ["repository_manifest.repository", "repository_manifest.digest"],
        ondelete="CASCADE",
        name="fk_mirrored_manifest_manifest",
    ),
)

mirrored_blob = Table(
    "mirrored_blob",
    metadata,
    Column("repository", NAME, primary_key=True),
    Column("manifest", DIGEST, primary_key=True),
    # what the manifest names, whether it is stored here yet or not
    Column("digest", DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["repository", "manifest"],
        ["mirrored_manifest.repository", "mirrored_manifest.digest"],
        ondelete="CASCADE",
        name="fk_mirrored_blob_manifest",
    ),
    Index("ix_mirrored_blob_digest", "repository", "digest"),
)

# upload sessions

upload = Table(
    "upload",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("repository", NAME, nullable=False),
    # whose it is: the account's id, or the name of somebody without an account
    Column("principal", String(255), nullable=False),
    # whose room it takes: the account's id, who is signed in without an account, or @ and the client of anybody else
    Column("opener", String(255), nullable=False, server_default="", index=True),
    Column("size", BigInteger, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("touched", Float, nullable=False, index=True),
)

upload_part = Table(
    "upload_part",
    metadata,
    Column("upload", String(36), ForeignKey("upload.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("key", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
)

event = Table(
    "event",
    metadata,
    # a notification that a webhook has not accepted yet
    Column("endpoint", String(255), primary_key=True),
    # sorts by the time it was made
    Column("id", String(36), primary_key=True),
    Column("document", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", Float, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    # for work that only one process does at a time
    Column("name", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("until", Float, nullable=False),
)
