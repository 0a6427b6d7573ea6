"""Bindings: a role on the entities that a pattern matches.

An entity is `namespace/name`, or just a namespace for what concerns the namespace itself. In a pattern `*` matches zero
or more characters: any in the name, and any but a slash in the namespace. Every other character stands for itself, even
`_` and `?`. `*` alone is short for `*/*`. A namespace itself is matched only by a pattern for all its names, such as
`team/*`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from auth.role import Role, Roles
from storage.errors import quote
from storage.glob import glob
from storage.text import redact

MOST_CHARACTERS = 512
EVERYTHING = "*/*"

_PATTERN = re.compile(r"[A-Za-z0-9+_@$&?^~.=*-]+/[A-Za-z0-9+_@$&?^~.=*/-]+")
"""The characters of namespaces, environments and repositories, and `*`."""


@dataclass(frozen=True)
class Binding:
    """`role` on every entity that `pattern` matches. `source` says where it comes from, for people who ask why."""

    pattern: str
    role: Role
    source: str = ""

    def __str__(self) -> str:
        return f"{show_pattern(self.pattern)}={self.role.name}"

    @cached_property
    def namespace(self) -> str:
        return self.pattern.partition("/")[0]

    @cached_property
    def name(self) -> str:
        return self.pattern.partition("/")[2]

    @property
    def place(self) -> tuple[str, bool]:
        """The one entity that it matches; or, and True, the beginning of all that it matches."""
        beginning, star, _ = self.pattern.partition("*")
        # `team/*` matches `team` as well
        return (beginning.removesuffix("/") if self.name == "*" else beginning), bool(star)

    def matches(self, entity: str) -> bool:
        namespace, slash, name = entity.partition("/")
        if not glob(self.namespace, namespace):
            return False
        return glob(self.name, name) if slash else self.name == "*"

    def covers(self, other: Binding) -> bool:
        """Whether this matches every entity that `other` matches; their roles do not matter."""
        # if a '*' of the other falls within one of this, so does all that it can stand for
        if not (glob(self.namespace, other.namespace) and glob(self.name, other.name)):
            return False
        return self.name == "*" or other.name != "*"


def check_pattern(text: str) -> str:
    """`text` as bindings store it. Raises ValueError."""
    pattern = EVERYTHING if text == "*" else text
    if len(pattern) > MOST_CHARACTERS or not _PATTERN.fullmatch(pattern):
        raise ValueError(f"{quote(redact(text))} is not an entity such as team/analysis, team/* or *")
    return pattern


def show_pattern(pattern: str) -> str:
    """As people write it."""
    return "*" if pattern == EVERYTHING else pattern


def check_case(pattern: str) -> str:
    """A pattern on which something is granted. Raises ValueError for one with capitals: nothing has such a name."""
    if pattern != pattern.lower():
        raise ValueError(
            f"{quote(redact(pattern))} would match nothing, since names have no capitals; did you mean "
            f"{quote(redact(pattern.lower()))}?"
        )
    return pattern


def parse_binding(text: str, roles: Roles, source: str = "") -> Binding:
    """Read `ENTITY=ROLE`; raises ValueError."""
    pattern, role = split_binding(text)
    return Binding(pattern, roles.find(role), source)


def split_binding(text: str) -> tuple[str, str]:
    """Split `ENTITY=ROLE` into its pattern and its role, which need not exist; raises ValueError."""
    # an entity may contain '=', a role may not
    entity, equals, role = text.strip().rpartition("=")
    if not equals:
        raise ValueError(f"{quote(redact(text))} is not a binding such as team/*=viewer")
    return check_pattern(entity), role
