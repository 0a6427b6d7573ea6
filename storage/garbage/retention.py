"""The tags that the retention rules of `storage.quotas.limits` delete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, and_, exists, or_, select, true

from storage.database import tables
from storage.database.environment_tables import environment
from storage.glob import glob
from storage.quotas.limits import Limits, Retention
from storage.quotas.protection import Protection


def rule_of(limits: Limits, repository: str) -> Retention | None:
    """The first rule that matches a repository."""
    return next((rule for rule in limits.retention if glob(rule.pattern, repository)), None)


def is_given_up(rule: Retention, repository: str, now: float) -> ColumnElement[bool]:
    """Whether a row of the table of tags is neither young nor among the last; its name is not checked here.

    Of tags updated at the same time, the last by name counts as the last. Tags of copies from another registry are for
    that registry to delete.
    """
    tag, copy = tables.tag, tables.mirrored_manifest
    is_copy = exists().where(copy.c.repository == tag.c.repository, copy.c.digest == tag.c.digest)
    young = tag.c.updated >= now - rule.days * 86400 if rule.days is not None else ~true()
    # builds of an environment go by its own settings, with their tags
    is_built = exists().where(environment.c.repository == tag.c.repository, environment.c.deleted.is_(None))
    return and_(tag.c.repository == repository, ~young, ~is_copy, ~is_built, _behind(rule.last, repository))


def _behind(last: int | None, repository: str) -> ColumnElement[bool]:
    """Whether a tag comes after the `last` most recently updated ones."""
    if not last:
        return true()
    tag, other = tables.tag, tables.tag.alias("other")
    # the last tag that stays, as scalars: the database then looks them up once, not for every tag
    updated, name = (
        select(column)
        .where(other.c.repository == repository)
        .order_by(other.c.updated.desc(), other.c.name.desc())
        .limit(1)
        .offset(last - 1)
        .scalar_subquery()
        for column in (other.c.updated, other.c.name)
    )
    return or_(tag.c.updated < updated, and_(tag.c.updated == updated, tag.c.name < name))


def find_given_up(protection: Protection, rule: Retention, tags: Iterable[str]) -> Sequence[str]:
    """Those that no pattern of the rule keeps, and that may change."""
    return [
        tag
        for tag in tags
        if not any(glob(pattern, tag) for pattern in rule.patterns) and protection.find_immutable(tag) is None
    ]
