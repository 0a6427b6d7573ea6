"""The tables of named environments. Times are UNIX seconds, documents are JSON text, and ids are shown to clients."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.database.tables import DIGEST, NAME, metadata

ENVIRONMENT_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")

ALIVE = "deleted IS NULL"
GONE = "deleted IS NOT NULL"
UNFINISHED = "status IN ('QUEUED', 'BUILDING')"

specification = Table(
    "specification",
    metadata,
    Column("id", Integer, primary_key=True),
    # whose it is: of another's, which may say the same, nobody is told the number or the time
    Column("environment", Integer, ForeignKey("environment.id"), nullable=False),
    # of everything below but the time: equal specifications of an environment are one row
    Column("sha256", String(64), nullable=False),
    Column("name", ENVIRONMENT_NAME, nullable=False),
    # what clients see: {name, prefix, channels, dependencies, variables}, or {lockfile}
    Column("document", Text, nullable=False),
    # what is built of it, which the builder understands
    Column("request", Text, nullable=False),
    Column("created", Float, nullable=False),
    UniqueConstraint("environment", "sha256"),
    sqlite_autoincrement=True,
)

environment = Table(
    "environment",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("namespace", NAME, nullable=False),
    Column("name", ENVIRONMENT_NAME, nullable=False),
    # namespace/name as image names are written: the repository of its images, and the entity of rights on it
    Column("repository", NAME, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    # the build that `latest` means; the first one from the start
    Column("current_build", Integer),
    # the last build that was requested, whatever became of it
    Column("last_build", Integer),
    Column("created", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
    # when it was last solved to see whether something has changed
    Column("resolved", Float),
    # why that failed, in a sentence; null if it did not
    Column("resolve_error", Text),
    # its row stays for its builds' logs and locks, by setting
    Column("deleted", Float),
    Index("uq_environment_alive_name", "namespace", "name", unique=True,
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("uq_environment_alive_repository", "repository", unique=True,
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_name", "name", "namespace", sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_current", "current_build"),
    Index("ix_environment_deleted", "deleted", sqlite_where=text(GONE), postgresql_where=text(GONE)),
    sqlite_autoincrement=True,
)  # fmt: skip

environment_build = Table(
    "environment_build",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("environment", Integer, ForeignKey("environment.id"), nullable=False),
    Column("specification", Integer, ForeignKey("specification.id"), nullable=False, index=True),
    # QUEUED, BUILDING, COMPLETED, FAILED or CANCELED
    Column("status", String(16), nullable=False),
    # one sentence that says why it failed, or what is remarkable
    Column("status_info", Text),
    # the key of the queue's builds that do the work
    Column("job_key", String(64), index=True),
    # REQUEST, REBUILD, WATCH, SCHEDULE or IMPORT
    Column("cause", String(16), nullable=False),
    # the lock that it was solved to, with its number in `listed_lock`, and the image
    Column("lock_key", String(64), index=True),
    Column("lock_number", Integer),
    Column("image_key", String(64), index=True),
    # the earlier build that has the same lock
    Column("same_as", Integer),
    # bytes of the packages
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("scheduled", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("created_by", String(255), nullable=False),
    # when its image or one of its files was last pulled
    Column("pulled", Float),
    Column("deleted", Float),
    # these hold all that lists are filtered by, so that they are read instead of the builds
    Index("ix_environment_build_environment_id", "environment", "id", "status", "lock_number",
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_build_status_id", "status", "id", "environment", "lock_number",
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_build_id", "id", "environment", "status", "lock_number",
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_build_scheduled", "scheduled", "id", "environment", "status", "lock_number",
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_build_started", "started", "id", "environment", "status", "lock_number",
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_build_ended", "ended", "id", "environment", "status", "lock_number",
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_build_lock_number", "lock_number", "environment", "status", "size",
          sqlite_where=text(ALIVE), postgresql_where=text(ALIVE)),
    Index("ix_environment_build_deleted", "deleted", sqlite_where=text(GONE), postgresql_where=text(GONE)),
    Index("ix_environment_build_unfinished", "id",
          sqlite_where=text(UNFINISHED), postgresql_where=text(UNFINISHED)),
    sqlite_autoincrement=True,
)  # fmt: skip

listed_lock = Table(
    "listed_lock",
    metadata,
    # the locks of builds, whose packages lists are filtered by; a number is never used again
    Column("number", Integer, primary_key=True),
    Column("lock_key", String(64), nullable=False, unique=True),
    sqlite_autoincrement=True,
)

package_locks = Table(
    "package_locks",
    metadata,
    # of a package, the locks that have it: number `block` * 1024 + n if bit n is set, the first byte's lowest bit is 0
    Column("name", NAME, primary_key=True),
    Column("block", Integer, primary_key=True, index=True),
    Column("bits", LargeBinary, nullable=False),
)

environment_image = Table(
    "environment_image",
    metadata,
    # a copy of the image's row of on-demand images, which gives way to others while its builds are still there
    Column("key", String(64), primary_key=True),
    Column("document", Text, nullable=False),
)

environment_manifest = Table(
    "environment_manifest",
    metadata,
    # the manifests of an image, of which a build's tags lead only to some
    Column("image", String(64), ForeignKey("environment_image.key", ondelete="CASCADE"), primary_key=True),
    Column("digest", DIGEST, primary_key=True, index=True),
)

environment_alarm = Table(
    "environment_alarm",
    metadata,
    # a current build that holds what the rules of now refuse
    Column("build", Integer, ForeignKey("environment_build.id", ondelete="CASCADE"), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
)

environment_directory = Table(
    "environment_directory",
    metadata,
    # a build that is on the disk of a server, or cannot be
    Column("build", Integer, ForeignKey("environment_build.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text),
    Column("problem", Text),
    Column("since", Float, nullable=False),
)

watched_file = Table(
    "watched_file",
    metadata,
    # of the namespace and the path, which may be longer than what an index takes
    Column("key", String(64), primary_key=True),
    Column("namespace", NAME, nullable=False),
    # the path in the settings that it is below, or is
    Column("root", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("environment", ENVIRONMENT_NAME),
    # of the content that was built last
    Column("sha256", String(64)),
    Column("build", Integer, index=True),
    # why the content of now is not built
    Column("error", Text),
    Column("changed", Float, nullable=False),
    Column("gone", Float),
    Index("ix_watched_file_namespace_environment", "namespace", "environment"),
)

setting = Table(
    "setting",
    metadata,
    # both empty for all namespaces, the second one empty for all environments of a namespace
    Column("namespace", NAME, primary_key=True),
    Column("environment", ENVIRONMENT_NAME, primary_key=True),
    Column("document", Text, nullable=False),
)
