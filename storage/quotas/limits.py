"""Limits on what repositories may hold and which tags may change: rules by repository, one line of text each.

    quotas = ["team/* bytes=10GB tags=100"]             everything under team/ together
    immutable_tags = ["*:v*", "prod/*:*"]               repository:tag
    retention = ["ci/* keep-last=10 keep-days=30 keep=v*+release-*"]

A `*` matches any number of any characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from storage.glob import glob
from storage.quotas.patterns import GLOB, Immutable
from storage.section import parse_size


@dataclass(frozen=True)
class Quota:
    """What all repositories with a matching name may hold together; None is no limit."""

    pattern: str
    bytes: int | None = None
    tags: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        pattern, values = _rule(text, {"bytes", "tags"})
        if not values:
            raise ValueError(f"{text!r}: say bytes=10GB, tags=100, or both")
        size = parse_size(values["bytes"]) if "bytes" in values else None
        return cls(pattern, size, _count(values["tags"]) if "tags" in values else None)


@dataclass(frozen=True)
class Retention:
    """The tags that matching repositories keep; the garbage collection deletes all others there.

    A tag is kept if it is one of the `last` most recently updated, is younger than `days`, or matches one of
    `patterns`.
    """

    pattern: str
    last: int | None = None
    days: float | None = None
    patterns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        pattern, values = _rule(text, {"keep-last", "keep-days", "keep"})
        if not values.keys() & {"keep-last", "keep-days"}:
            raise ValueError(f"{text!r}: say keep-last=10, keep-days=30, or both, or every tag would be deleted")
        last = _count(values["keep-last"]) if "keep-last" in values else None
        days = float(_count(values["keep-days"])) if "keep-days" in values else None
        patterns = tuple(filter(None, values.get("keep", "").split("+")))
        for each in patterns:
            if not GLOB.fullmatch(each):
                raise ValueError(f"{text!r}: {each!r} is not a pattern of tags, in which * matches anything")
        return cls(pattern, last, days, patterns)


@dataclass(frozen=True)
class Limits:
    """The rules for pushes and deletions; of each kind the first that matches applies."""

    quotas: tuple[Quota, ...] = ()
    immutable: tuple[Immutable, ...] = ()
    retention: tuple[Retention, ...] = ()
    no_delete: tuple[str, ...] = ()
    """Patterns of repositories in which clients delete nothing."""
    namespace: int = 0
    """The most bytes of a namespace that has no quota of its own; 0 is no limit."""
    images: int = 0
    """The most bytes of on-demand content; 0 is no limit."""
    root: str = ""
    """The repository of the on-demand images."""
    grace: float = 24 * 3600.0
    """Seconds after which a blob that no manifest names may be deleted to make room."""

    def concern(self, repository: str) -> bool:
        """Whether a push to the repository could break a rule."""
        return self.quota(repository) is not None or any(glob(rule.repository, repository) for rule in self.immutable)

    def quota(self, repository: str) -> Quota | None:
        return next((quota for quota in self.quotas if glob(quota.pattern, repository)), None)


def _rule(text: str, known: set[str]) -> tuple[str, Mapping[str, str]]:
    pattern, *words = text.split() or [""]
    if not GLOB.fullmatch(pattern):
        raise ValueError(f"{text!r} does not begin with the name of a repository, in which * matches anything")
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in known or not equals:
            raise ValueError(f"{text!r}: {word!r} is not one of {', '.join(f'{each}=' for each in sorted(known))}")
        if name in values:
            raise ValueError(f"{text!r}: {word!r} is given twice")
        values[name] = value
    return pattern, values


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)
