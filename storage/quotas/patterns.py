"""Patterns of repositories and tags, in which `*` matches any number of any characters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from storage.glob import glob

GLOB = re.compile(r"[a-zA-Z0-9._/*-]+")
"""What a pattern may consist of."""


@dataclass(frozen=True)
class Immutable:
    """Tags that can never be moved or deleted once they exist."""

    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        repository, colon, tag = text.partition(":")
        if not colon or not GLOB.fullmatch(repository) or not GLOB.fullmatch(tag):
            raise ValueError(f"{text!r} is not REPOSITORY:TAG, in which * matches anything")
        return cls(repository, tag)

    def holds(self, repository: str, tag: str) -> bool:
        return glob(self.repository, repository) and glob(self.tag, tag)

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


def check_repositories(text: str) -> str:
    """A pattern of repositories as settings hold it. Raises ValueError."""
    if not GLOB.fullmatch(text):
        raise ValueError(f"{text!r} is not a pattern of repositories, such as team/*")
    return text
