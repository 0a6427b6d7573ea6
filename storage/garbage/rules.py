"""What is garbage, as conditions on rows whose times have been mended (`storage.database.sql_clock`).

    tag         its repository's retention rule does not keep it
    image       (on demand) not requested for long; likewise files beside images, and copies from other registries
    manifest    for long no tag, image, build, index or subject has led to it
    link        no manifest of this repository needs the blob, and nobody has just pushed it
    lock        nothing made from it is left, and it was not requested for long; or nothing ever was, or too many locks
    resolution  its lock is gone, or there are too many
    build       it ended long ago, or there are too many
    blob        no repository, file or log has it, and nothing has just come to need it

The schema's foreign keys say what refers to what. A manifest is garbage only once everything that leads to it is gone.
So a whole graph of manifests goes from the top, one by one, and a single statement shows the reason for each. The few
graphs without a top are found by `storage.garbage.rings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import ColumnElement, FromClause, Table, and_, case, exists, false, func, literal, or_, tuple_

from storage.clock import IN_USE_SECONDS
from storage.database import log_tables, tables
from storage.database.environment_tables import environment_build
from storage.database.sql_clock import is_before
from storage.environments.publishing import is_of_build
from storage.quotas.limits import Limits

BUILD_SILENT_SECONDS = 60.0
"""A build without a heartbeat for this long is not waited for. It is four times what the queue allows."""


@dataclass(frozen=True)
class GarbagePolicy:
    """How long content that is not needed stays, in seconds."""

    root: str
    """The repository of the on-demand images."""
    grace: float = 24 * 3600.0
    """Since a blob was pushed or last needed. Longer than any push takes."""
    linger: float = 60.0
    """Between deleting a blob and deleting its bytes, for clients that have just begun to read them."""
    upload_seconds: float = 24 * 3600.0
    """Since the last request of an upload session."""
    untagged_for: float = 30 * 24 * 3600.0
    """Since a manifest was pushed, used by its digest, or lost its last tag; 0 is for ever."""
    image_retention: float = 90 * 24 * 3600.0
    """Since an on-demand image or file was last requested; 0 is for ever."""
    copy_retention: float = 0.0
    """Since a copy from another registry was last requested; 0 is for ever."""
    build_retention: float = 7 * 24 * 3600.0
    """Since a build ended, or since a lock was solved that nothing was ever made from."""
    lock_retention: float = 0.0
    """Since the last request for what was made from a lock, once that is gone; 0 is for ever."""
    most_builds: int = 100_000
    """The most ended builds to keep; 0 is no limit."""
    most_resolutions: int = 1_000_000
    """The most resolutions of names to keep; 0 is no limit."""
    locks_limit: int = 0
    """The most bytes of locks to keep; 0 is no limit."""
    limits: Limits = field(default_factory=Limits)


def lock_needed() -> ColumnElement[float]:
    """When a lock was last needed."""
    return func.coalesce(tables.lock.c.used, tables.lock.c.created)


class Gone(Protocol):
    """Rows to be treated as deleted though they exist."""

    def has(self, table: Table, key: Sequence[ColumnElement[Any]]) -> ColumnElement[bool] | None:
        """Whether the row of `table` with this primary key is one of them; None if there are none at all."""


class NothingGone:
    def has(self, table: Table, key: Sequence[ColumnElement[Any]]) -> ColumnElement[bool] | None:
        return None


@dataclass(frozen=True)
class GarbageKind:
    """Rows of one table that one step deletes; `size` is how many bytes that frees on disk."""

    name: str
    table: Table
    size: ColumnElement[int] = field(default_factory=lambda: literal(0))

    @property
    def of_manifests(self) -> bool:
        """Whether deleting such a row requires the lock on its repository's manifests."""
        return self.table is tables.repository_manifest


UPLOADS = GarbageKind("uploads", tables.upload, tables.upload.c.size)
TAGS = GarbageKind("tags", tables.tag)
IMAGES = GarbageKind("images", tables.image)
FILES = GarbageKind("files", tables.artifact)
COPIES = GarbageKind("copies", tables.repository_manifest)
MANIFESTS = GarbageKind("manifests", tables.repository_manifest)
LINKS = GarbageKind("links", tables.link)
BLOBS = GarbageKind("blobs", tables.blob, case((tables.blob.c.key.is_(None), 0), else_=tables.blob.c.size))
BODIES = GarbageKind("bodies", tables.manifest, func.length(tables.manifest.c.body))
REPOSITORIES = GarbageKind("repositories", tables.repository)
LOCKS = GarbageKind("locks", tables.lock, tables.lock.c.size)
RESOLUTIONS = GarbageKind("resolutions", tables.resolution)
BUILDS = GarbageKind("builds", tables.build)

assert log_tables.environment_log.metadata is tables.metadata, "the tables that keep blobs are known"

KINDS = (
    UPLOADS, TAGS, IMAGES, FILES, COPIES, MANIFESTS, LINKS, BLOBS, BODIES, REPOSITORIES, LOCKS, RESOLUTIONS, BUILDS,
)  # fmt: skip
"""In the order of the steps: each may make garbage for later ones."""


@dataclass(frozen=True)
class Bounds:
    """The last row that is too many, in the order of deletion; None if there are not too many."""

    lock: tuple[bool, float, str] | None = None
    """`pinned`, the time of the last need, and the key."""
    resolution: float | None = None
    """When it was solved."""
    build: float | None = None
    """When it ended."""


@dataclass(frozen=True)
class Rules:
    """A policy at the time `now` (UNIX seconds); the oldest running build began at `oldest_build`."""

    policy: GarbagePolicy
    now: float
    oldest_build: float | None = None
    bounds: Bounds = Bounds()
    gone: Gone = field(default_factory=NothingGone)

    def garbage(self, kind: GarbageKind) -> ColumnElement[bool]:
        """Whether a row of the kind's table is garbage. For TAGS ask `retention` instead."""
        conditions = {
            UPLOADS.name: self._uploads,
            IMAGES.name: self._images,
            FILES.name: self._files,
            COPIES.name: self._copies,
            MANIFESTS.name: self._manifests,
            LINKS.name: self._links,
            BLOBS.name: self._blobs,
            BODIES.name: self._bodies,
            REPOSITORIES.name: self._repositories,
            LOCKS.name: self._locks,
            RESOLUTIONS.name: self._resolutions,
            BUILDS.name: self._builds,
        }
        return and_(conditions[kind.name](), *self.require_kept(kind.table))

    @property
    def _grace(self) -> float:
        return self.now - self.policy.grace

    def _uploads(self) -> ColumnElement[bool]:
        return is_before(tables.upload.c.touched, self.now - self.policy.upload_seconds, self.now)

    def _images(self) -> ColumnElement[bool]:
        return self._is_unused(tables.image.c.used, self.policy.image_retention)

    def _files(self) -> ColumnElement[bool]:
        return self._is_unused(tables.artifact.c.used, self.policy.image_retention)

    def _copies(self) -> ColumnElement[bool]:
        row, copy = tables.repository_manifest, tables.mirrored_manifest
        unused = self._is_unused(copy.c.pulled, self.policy.copy_retention)
        return exists().where(copy.c.repository == row.c.repository, copy.c.digest == row.c.digest, unused)

    def _is_unused(self, last: ColumnElement[float], seconds: float) -> ColumnElement[bool]:
        return last < self.now - seconds if seconds else false()

    def _manifests(self) -> ColumnElement[bool]:
        row, child = tables.repository_manifest, tables.manifest_child
        return and_(
            self.is_unneeded(row),
            ~exists().where(
                child.c.repository == row.c.repository, child.c.digest == row.c.digest, *self.require_kept(child)
            ),
            ~self.subject_is_there(row),
        )

    def is_unneeded(self, row: FromClause) -> ColumnElement[bool]:
        """Whether a manifest is garbage unless another leads to it; `row` is the table or an alias of it."""
        tag, copy, image = tables.tag, tables.mirrored_manifest, tables.image_manifest
        return and_(
            or_(
                # what is attached to an image's manifest came when that was there, and goes with it
                and_(row.c.repository == self.policy.root, or_(row.c.pushed < self._grace, row.c.subject.is_not(None))),
                and_(row.c.repository != self.policy.root, self._is_long_untagged(row)),
            ),
            ~exists().where(tag.c.repository == row.c.repository, tag.c.digest == row.c.digest),
            # in any repository: the root may have been another when the image was made
            ~exists().where(image.c.digest == row.c.digest, *self.require_kept(image)),
            ~exists().where(
                copy.c.repository == row.c.repository, copy.c.digest == row.c.digest, *self.require_kept(copy)
            ),
            # the docker schema 2 form of an environment's image has no tag
            ~is_of_build(row),
            *self.require_kept(tables.repository_manifest, row),
        )

    def _is_long_untagged(self, row: FromClause) -> ColumnElement[bool]:
        before = self.now - self.policy.untagged_for
        return and_(row.c.untagged < before, row.c.pushed < before) if self.policy.untagged_for else false()

    def subject_is_there(self, row: FromClause) -> ColumnElement[bool]:
        """Whether the repository has the manifest's subject."""
        upper = tables.repository_manifest.alias("upper")
        same = (upper.c.repository == row.c.repository, upper.c.digest == row.c.subject)
        return exists().where(*same, *self.require_kept(tables.repository_manifest, upper))

    def subject_is_unneeded(self, row: FromClause) -> ColumnElement[bool]:
        """Whether the repository has the manifest's subject, and that is `unneeded` too."""
        upper = tables.repository_manifest.alias("upper")
        same = (upper.c.repository == row.c.repository, upper.c.digest == row.c.subject)
        return exists().where(*same, self.is_unneeded(upper))

    def _links(self) -> ColumnElement[bool]:
        link, upload = tables.link, tables.upload
        # a push lasts as long as its longest upload: what was there when that began is still wanted when it ends
        pushing = exists().where(
            upload.c.repository == link.c.repository,
            upload.c.created < link.c.created + self.policy.grace,
            *self.require_kept(upload),
        )
        return and_(link.c.created < self._grace, *self._require_unreferenced(link), ~pushing)

    def _blobs(self) -> ColumnElement[bool]:
        # a build needs all that it has made or found since it began
        before = self._grace if self.oldest_build is None else min(self._grace, self.oldest_build)
        return and_(tables.blob.c.used < before, *self._require_unreferenced(tables.blob))

    def _bodies(self) -> ColumnElement[bool]:
        return and_(tables.manifest.c.created < self._grace, *self._require_unreferenced(tables.manifest))

    def _repositories(self) -> ColumnElement[bool]:
        upload = tables.upload
        pushing = exists().where(upload.c.repository == tables.repository.c.name, *self.require_kept(upload))
        return and_(*self._require_unreferenced(tables.repository), ~pushing)

    def _locks(self) -> ColumnElement[bool]:
        """Locks have no foreign keys: what is made from a lock may exist without it, and be made again."""
        lock, image, file = tables.lock, tables.image, tables.artifact
        named = environment_build.c.lock_key
        never_used = and_(lock.c.used.is_(None), lock.c.created < self.now - self.policy.build_retention)
        garbage = or_(never_used, self._is_unused(lock.c.used, self.policy.lock_retention))
        if self.bounds.lock is not None:
            pinned, needed, key = self.bounds.lock
            place = tuple_(lock.c.pinned, lock_needed(), lock.c.key)
            # a lock that was just solved is about to be used
            settled = lock_needed() < self.now - IN_USE_SECONDS
            garbage = or_(garbage, and_(settled, place <= tuple_(literal(pinned), literal(needed), literal(key))))
        return and_(
            garbage,
            ~exists().where(image.c.lock_key == lock.c.key, *self.require_kept(image)),
            ~exists().where(file.c.lock_key == lock.c.key, *self.require_kept(file)),
            # what was built can be built again for as long as the environment's history says so
            ~exists().where(named == lock.c.key),
        )

    def _resolutions(self) -> ColumnElement[bool]:
        row, lock = tables.resolution, tables.lock
        lost = ~exists().where(lock.c.key == row.c.lock_key, *self.require_kept(lock))
        return or_(lost, row.c.solved <= self.bounds.resolution) if self.bounds.resolution is not None else lost

    def _builds(self) -> ColumnElement[bool]:
        row, before = tables.build, self.now - self.policy.build_retention
        ended = is_before(row.c.ended, before, self.now)
        over = or_(ended, and_(row.c.ended.is_(None), row.c.heartbeat < before))
        return or_(over, row.c.ended <= self.bounds.build) if self.bounds.build is not None else over

    def _require_unreferenced(self, table: Table) -> Iterator[ColumnElement[bool]]:
        """Conditions that no row refers to a row of `table`, apart from rows that are deleted with it."""
        for other in table.metadata.sorted_tables:
            for key in other.foreign_key_constraints:
                if key.referred_table is table and key.ondelete != "CASCADE":
                    yield ~exists().where(
                        *(each.parent == each.column for each in key.elements), *self.require_kept(other)
                    )

    def require_kept(self, table: Table, row: FromClause | None = None) -> Iterator[ColumnElement[bool]]:
        """Conditions that neither a row of `table`, or of its alias, nor what it is deleted with is gone."""
        row = table if row is None else row
        owners: list[tuple[Table, list[str]]] = [(table, [column.name for column in table.primary_key])]
        owners += [
            (key.referred_table, [each.parent.name for each in key.elements])
            for key in table.foreign_key_constraints
            if key.ondelete == "CASCADE"
        ]
        for owner, columns in owners:
            if (gone := self.gone.has(owner, [row.c[name] for name in columns])) is not None:
                yield ~gone
