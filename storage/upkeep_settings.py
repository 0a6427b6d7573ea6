"""How long and how much to keep, and what may not change: data that `registry.settings` reads."""

from __future__ import annotations

from pydantic import Field, field_validator

from storage.quotas.limits import Limits, Quota, Retention
from storage.quotas.patterns import Immutable, check_repositories
from storage.section import Section, Size

DAY = 24 * 3600


class UpkeepSettings(Section):
    """Garbage collection, bounds of caches, and rules for repositories. Times are in seconds."""

    gc_interval: float = Field(
        3600, ge=0, description="Seconds between garbage collections of the running server; 0 turns them off."
    )
    gc_grace: float = Field(
        DAY,
        ge=0,
        description="Seconds for which a blob that nothing needs is kept; set it longer than any push takes.",
    )
    upload_seconds: float = Field(
        DAY, gt=0, description="Seconds without a request after which an upload session ends."
    )
    untagged_for: float = Field(
        30 * DAY, ge=0, description="Seconds for which a manifest that no tag leads to is kept; 0 keeps it for ever."
    )
    image_retention: float = Field(
        90 * DAY,
        ge=0,
        description="Seconds for which an on-demand image is kept after it was last requested. Its lock stays, and "
        "the same image is made again on request. 0 keeps it for ever.",
    )
    build_retention: float = Field(
        7 * DAY,
        ge=0,
        description="Seconds for which the record of an ended build is kept, and a lock that no image or file was "
        "made from.",
    )
    deleted_retention: float = Field(
        90 * DAY,
        ge=0,
        description="Seconds for which logs and locks of deleted builds of environments are kept.",
    )
    lock_retention: float = Field(
        0,
        ge=0,
        description="Seconds for which a lock is kept after the last request for its image or files, once these are "
        "gone; 0 keeps it for ever.",
    )
    locks_limit: Size = Field(
        10 * 10**9,
        description="Maximum size of all locks. Beyond it, locks that were never requested by their own tag are "
        "deleted, then others, the least recently used first; the lock of a stored image stays. 0 is no limit.",
    )
    fragments_limit: Size = Field(
        50 * 10**9,
        description="Maximum size of the cached fragments (packages ready for layers) that no layer needs; 0 is no "
        "limit.",
    )
    archives_limit: Size = Field(
        20 * 10**9, description="Maximum size of the cached downloaded packages; 0 is no limit."
    )
    repodata_limit: Size = Field(5 * 10**9, description="Maximum size of the cached channel indexes; 0 is no limit.")
    pypi_limit: Size = Field(
        4 * 10**9, description="Maximum size of what is kept of indexes of PyPI packages; 0 is no limit."
    )
    images_limit: Size = Field(
        0,
        description="Maximum size of all on-demand images and their files together. Beyond it, the least recently used "
        "are deleted; a new one that does not fit beside those of the last two hours is refused. 0 is no "
        "limit.",
    )
    quotas: tuple[str, ...] = Field(
        (),
        description="Limits on the total size and the number of tags of repositories, such as 'team/* bytes=10GB "
        "tags=100'.",
    )
    namespace_quota: Size = Field(
        0,
        description="Maximum size of all repositories of a namespace together, for every namespace that has no quota "
        "of its own (condery namespace quota). 0 is no limit.",
    )
    immutable_tags: tuple[str, ...] = Field(
        (),
        description="Tags that cannot be moved or deleted, as REPOSITORY:TAG in which * matches anything, such as "
        "'prod/*:v*'.",
    )
    retention: tuple[str, ...] = Field(
        (),
        description="Rules for the tags that repositories keep, such as 'ci/* keep-last=10 keep-days=30 "
        "keep=v*+release-*'; all other tags there are deleted.",
    )
    no_delete: tuple[str, ...] = Field(
        (),
        description="Repositories from which clients delete nothing, neither tags nor manifests nor blobs, such as "
        "'prod/*'; retention and garbage collection still do.",
    )
    read_only: bool = Field(
        False, description="Whether pushes and deletions are refused; on-demand images are still made."
    )

    @field_validator("quotas")
    @classmethod
    def _are_quotas(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Quota.parse(text)
        return value

    @field_validator("immutable_tags")
    @classmethod
    def _are_immutable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Immutable.parse(text)
        return value

    @field_validator("retention")
    @classmethod
    def _are_retention(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Retention.parse(text)
        return value

    @field_validator("no_delete")
    @classmethod
    def _are_repositories(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_repositories, value))

    @property
    def limits(self) -> Limits:
        return Limits(
            quotas=tuple(map(Quota.parse, self.quotas)),
            immutable=tuple(map(Immutable.parse, self.immutable_tags)),
            retention=tuple(map(Retention.parse, self.retention)),
            no_delete=self.no_delete,
            namespace=self.namespace_quota,
            images=self.images_limit,
            grace=self.gc_grace,
        )
