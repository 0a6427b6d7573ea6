"""How long things are kept, how much, and what may not be changed: data that `registry.settings` reads."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from storage.quotas.limits import Immutable, Limits, Quota, Retention, parse_size

DAY = 24 * 3600


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
"""Bytes: a number, or text such as 50GB or 2GiB."""


class UpkeepSettings(BaseModel):
    """Garbage collection, the bounds of caches, and rules for repositories. Times in seconds."""

    model_config = ConfigDict(frozen=True)

    gc_interval: float = Field(
        3600, ge=0, description="seconds between garbage collections of the running server; 0 turns them off"
    )
    gc_grace: float = Field(
        DAY, ge=0, description="seconds for which a blob that nothing needs is kept; longer than any push takes"
    )
    upload_seconds: float = Field(DAY, gt=0, description="seconds of silence after which an upload session ends")
    untagged_for: float = Field(
        30 * DAY, ge=0, description="seconds for which a manifest that no tag leads to is kept; 0 is for ever"
    )
    image_retention: float = Field(
        90 * DAY,
        ge=0,
        description="seconds for which an image made on demand is kept after it was last asked for; its lock stays, "
        "and it is made again, the same, when asked for; 0 is for ever",
    )
    build_retention: float = Field(
        7 * DAY, ge=0, description="seconds for which an ended build is kept, and a lock that nothing was ever made of"
    )
    lock_retention: float = Field(
        0,
        ge=0,
        description="seconds for which a lock is kept after what was made of it was last asked for; one that an image "
        "is made from stays; 0 is for ever",
    )
    locks_limit: Size = Field(
        10 * 10**9,
        description="bytes of locks kept, of which those go first that were never asked for by their own tag, and that "
        "nobody has used for longest; one that an image is made from stays; 0 is no limit",
    )
    fragments_limit: Size = Field(
        50 * 10**9, description="bytes of packages kept ready for layers beyond those that layers need; 0 is no limit"
    )
    archives_limit: Size = Field(20 * 10**9, description="bytes of downloaded packages kept; 0 is no limit")
    repodata_limit: Size = Field(5 * 10**9, description="bytes of channels' indexes kept; 0 is no limit")
    images_limit: Size = Field(
        0,
        description="bytes that all images and files made on demand may take together, beyond which those go that "
        "nobody has used for longest; what does not fit beside those of the last two hours is refused; 0 is no limit",
    )
    quotas: tuple[str, ...] = Field(
        (), description="what repositories may hold together, such as 'team/* bytes=10GB tags=100'"
    )
    immutable_tags: tuple[str, ...] = Field(
        (), description="tags that are never moved or deleted: REPOSITORY:TAG, where * is anything, such as 'prod/*:v*'"
    )
    retention: tuple[str, ...] = Field(
        (), description="tags that are kept, others being deleted: 'ci/* keep-last=10 keep-days=30 keep=v*+release-*'"
    )
    read_only: bool = Field(False, description="refuse to push and delete; images are still made on demand")

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

    @property
    def limits(self) -> Limits:
        return Limits(
            quotas=tuple(map(Quota.parse, self.quotas)),
            immutable=tuple(map(Immutable.parse, self.immutable_tags)),
            retention=tuple(map(Retention.parse, self.retention)),
            images=self.images_limit,
            grace=self.gc_grace,
        )
