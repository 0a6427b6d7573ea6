"""What it takes to decide whether somebody may do something."""

from __future__ import annotations

import time
from collections.abc import Callable

from auth.access import may
from auth.binding import Binding
from auth.grants import Grants
from auth.permission import Permission
from auth.principal import Principal
from auth.role import ADMIN, EDITOR, VIEWER
from bench.row import Row

BINDINGS = 1000
ENTITIES = 1000

SHAPES: dict[str, Callable[[int], str]] = {
    "a namespace each": lambda n: f"team-{n}/*",
    "names of one namespace": lambda n: f"team/image-{n}",
    "beginnings of names": lambda n: f"team/image-{n}*",
    "ends of names": lambda n: f"team/*-image-{n}",
    "a wildcard in the namespace": lambda n: f"team*-{n}/*",
    "names in any namespace": lambda n: f"*/image-{n}",
    "something anywhere": lambda n: f"*m-{n}*/*g*",
}
"""Patterns of 1,000 bindings."""


def measure(*, short: bool) -> list[Row]:
    rounds = 2 if short else 10
    return [
        Row(
            f"may, 1,000 bindings: {name}",
            min(_microseconds(pattern) for _ in range(rounds)),
            "us",
            20,
            "at most",
            note="each of 1,000 entities for the first time",
        )
        for name, pattern in SHAPES.items()
    ]


def _microseconds(pattern: Callable[[int], str]) -> float:
    """Of one decision, on average over entities about which nothing was asked before."""
    roles = (VIEWER, EDITOR, ADMIN)
    one = Principal("a", grants=Grants(Binding(pattern(n), roles[n % 3]) for n in range(BINDINGS)))
    entities = [f"team-{n}/of-some-image-{n}" if n % 4 else f"team/image-{n}" for n in range(ENTITIES)]
    begun = time.process_time()
    for entity in entities:
        may(one, Permission.ENVIRONMENT_READ, entity)
    return (time.process_time() - begun) / ENTITIES * 1e6
