"""What a build has that another had not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.cli.environments.shown import ShownPackage

SOME = 4
"""Packages that are named in a line."""


@dataclass(frozen=True)
class Changes:
    """What changed from the build `against`; a change has both versions."""

    against: int
    added: tuple[ShownPackage, ...]
    removed: tuple[ShownPackage, ...]
    changed: tuple[tuple[ShownPackage, ShownPackage], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "against": self.against,
            "added": [{"name": each.name, "version": each.version} for each in self.added],
            "removed": [{"name": each.name, "version": each.version} for each in self.removed],
            "changed": [{"name": old.name, "from": old.version, "to": new.version} for old, new in self.changed],
        }

    def to_lines(self) -> list[str]:
        """Every change, a line each."""
        return [
            *(f"+ {each.name} {each.version}" for each in self.added),
            *(f"- {each.name} {each.version}" for each in self.removed),
            *(f"~ {old.name} {old.version} -> {new.version}" for old, new in self.changed),
        ]

    def to_line(self) -> str:
        """The first changes, as one line."""
        lines = self.to_lines()
        if not lines:
            return f"the same versions as build {self.against}"
        more = f" and {len(lines) - SOME} more" if len(lines) > SOME else ""
        return ", ".join(lines[:SOME]) + more


def compare(against: int, before: Sequence[ShownPackage], after: Sequence[ShownPackage]) -> Changes:
    """From the packages of one build to those of another; each has a name once."""
    old, new = {each.name: each for each in before}, {each.name: each for each in after}
    return Changes(
        against,
        tuple(new[name] for name in sorted(new.keys() - old.keys())),
        tuple(old[name] for name in sorted(old.keys() - new.keys())),
        tuple((old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]),
    )
