"""Roles: names for sets of permissions. Three are built in; settings may add others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from auth.permission import Permission, parse_permission
from storage.errors import quote
from storage.text import redact

_ROLE_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Role(NamedTuple):
    name: str
    permissions: frozenset[Permission]


VIEWER = Role(
    "viewer",
    frozenset({Permission.ENVIRONMENT_READ, Permission.NAMESPACE_READ, Permission.NAMESPACE_ROLE_MAPPING_READ}),
)
EDITOR = Role(
    "editor",
    VIEWER.permissions
    | {
        Permission.ENVIRONMENT_CREATE,
        Permission.ENVIRONMENT_UPDATE,
        Permission.ENVIRONMENT_SOLVE,
        Permission.BUILD_CANCEL,
        Permission.SETTING_READ,
    },
)
ADMIN = Role("admin", frozenset(Permission))

BUILT_IN: Mapping[str, Role] = {"viewer": VIEWER, "editor": EDITOR, "developer": EDITOR, "admin": ADMIN}
"""By every name under which they are written; `developer` is conda-store's name for an editor."""


class Roles:
    """This server's roles by name."""

    def __init__(self, custom: Iterable[Role] = ()) -> None:
        self._roles = {**BUILT_IN, **{role.name: role for role in custom}}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._roles))

    def __contains__(self, name: str) -> bool:
        return name in self._roles

    def find(self, name: str) -> Role:
        """The role of this name; raises ValueError if there is none."""
        if name not in self._roles:
            raise ValueError(f"{quote(redact(name))} is not a role; the roles here are {', '.join(self.names)}")
        return self._roles[name]


def is_role_name(text: str) -> bool:
    return _ROLE_NAME.fullmatch(text) is not None


def parse_role(text: str) -> Role:
    """Read a custom role from `NAME=PERMISSION+PERMISSION`; raises ValueError."""
    name, equals, listed = text.partition("=")
    name = name.strip()
    if not equals or not is_role_name(name):
        raise ValueError(f"{quote(redact(text))} is not a role such as publisher=environment::read+environment::create")
    if name in BUILT_IN:
        raise ValueError(f"{name} is a built-in role; give yours another name")
    try:
        permissions = frozenset(parse_permission(each.strip()) for each in listed.split("+") if each.strip())
    except ValueError as error:
        raise ValueError(f"role {name}: {error}") from None
    if not permissions:
        raise ValueError(f"role {name} has no permissions")
    return Role(name, permissions)
