"""Builds that this process has just recorded: their work begins at once, and need not read them again."""

from __future__ import annotations

from dataclasses import dataclass, field

from cachetools import LRUCache

from builder.environments.request import BuildRequest
from storage.environments.vocabulary import EnvironmentBuild

MOST = 256


@dataclass(frozen=True)
class AtHand:
    """Each is given out once. One that is not here, or not any more, is read from the database."""

    _kept: LRUCache[int, tuple[EnvironmentBuild, BuildRequest]] = field(default_factory=lambda: LRUCache(MOST))

    def put(self, build: EnvironmentBuild, request: BuildRequest) -> None:
        self._kept[build.id] = build, request

    def take(self, build_id: int) -> tuple[EnvironmentBuild, BuildRequest] | None:
        found: tuple[EnvironmentBuild, BuildRequest] | None = self._kept.pop(build_id, None)
        return found
