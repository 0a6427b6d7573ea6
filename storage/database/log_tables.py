"""The tables of logs of environments' builds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, Table, false, text

from storage.database.tables import DIGEST, metadata

UNKEPT = "digest IS NULL"

environment_log = Table(
    "environment_log",
    metadata,
    # of an environment's build; no foreign key, so that a log is written whatever happens to its build
    Column("build", Integer, primary_key=True, autoincrement=False),
    # bytes appended so far
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("ended", Boolean, nullable=False, server_default=false()),
    # when it last got anything
    Column("written", Float, nullable=False),
    # the blob with all of it, once it has ended and is no longer in pieces
    Column("digest", DIGEST, ForeignKey("blob.digest"), index=True),
    Index("ix_environment_log_unkept", "written", sqlite_where=text(UNKEPT), postgresql_where=text(UNKEPT)),
)

environment_log_piece = Table(
    "environment_log_piece",
    metadata,
    Column("build", Integer, ForeignKey("environment_log.build", ondelete="CASCADE"), primary_key=True),
    # of its first byte in the log
    Column("position", BigInteger, primary_key=True),
    # whole records
    Column("content", LargeBinary, nullable=False),
)
