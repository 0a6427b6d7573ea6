"""The catalog's tables. Times are UNIX seconds, documents are JSON text, keys are 64 hex digits."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

manifest = Table(
    "manifest",
    metadata,
    Column("digest", String(140), primary_key=True),
    Column("media_type", String(255), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
)

lock = Table(
    "lock",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("spec_key", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("created", Float, nullable=False),
)

resolution = Table(
    "resolution",
    metadata,
    # of the spec with its cut-off date: what a tag that is not lock- means
    Column("request_key", String(64), primary_key=True),
    Column("spec_key", String(64), nullable=False, index=True),
    Column("until", String(10)),
    Column("lock_key", String(64), nullable=False),
    Column("solved", Float, nullable=False),
)

image = Table(
    "image",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("lock_key", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("created", Float, nullable=False),
)

artifact = Table(
    "artifact",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("lock_key", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("created", Float, nullable=False),
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
    Column("ended", Float),
    Column("error_kind", String(64)),
    Column("error_message", Text),
    Column("error_transient", Boolean),
    # at most one unfinished build of a key, whichever process or machine it is in
    Index(
        "uq_build_unfinished_key", "key", unique=True, sqlite_where=text(UNFINISHED), postgresql_where=text(UNFINISHED)
    ),
    Index("ix_build_key_created", "key", "created"),
)
