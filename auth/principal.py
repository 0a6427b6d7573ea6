"""Who asks, and what they have been granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auth.grants import NOTHING, Grants

PrincipalKind = Literal["person", "robot", "workload", "anonymous"]

Scopes = Mapping[str, frozenset[str]]
"""What a registry token is for: actions (`pull`, `push`, `delete`, or `*`) by `type:name`, such as
`repository:team/image` or `registry:catalog` (distribution's token specification, "access")."""


@dataclass(frozen=True)
class Principal:
    """A person, a robot, a workload or anybody: what permissions are granted to, and what the log names."""

    name: str
    """Unique among all principals; those that are no accounts have a `/` in it, or are `anonymous`."""
    kind: PrincipalKind = "anonymous"
    id: str = ""
    """Of the account; empty for who has none."""
    grants: Grants = field(default=NOTHING, compare=False)
    limits: tuple[Grants, ...] = field(default=(), compare=False)
    """What the credentials are limited to: each of these has to grant a permission as well."""
    scopes: Scopes | None = field(default=None, compare=False)
    """What a registry token was issued for; None for credentials that are not limited to repositories."""
    token: str = ""
    """The id of the token that was presented, for the audit log; empty for a password and for nobody."""


ANONYMOUS = Principal("anonymous")
"""Whoever did not say who they are, with no grants at all."""
