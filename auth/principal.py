"""Who sends a request, and what they have been granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auth.grants import NOTHING, Grants

PrincipalKind = Literal["person", "robot", "workload", "anonymous"]

Scopes = Mapping[str, frozenset[str]]
"""What a registry token allows: actions (`pull`, `push`, `delete`, or `*`) by `type:name`, such as
`repository:team/image` or `registry:catalog` (distribution's token specification, "access")."""


@dataclass(frozen=True)
class Principal:
    """A person, a robot, a workload or anybody: what permissions are granted to, and what the log names."""

    name: str
    """Unique among all principals; the name of one without an account contains a `/`, or is `anonymous`."""
    kind: PrincipalKind = "anonymous"
    id: str = ""
    """The account's id; empty without an account."""
    grants: Grants = field(default=NOTHING, compare=False)
    limits: tuple[Grants, ...] = field(default=(), compare=False)
    """Limits of the credentials: each of these must grant a permission, too."""
    scopes: Scopes | None = field(default=None, compare=False)
    """What a registry token was issued for; None for credentials that are not limited to repositories."""
    token: str = ""
    """The id of the access token that was presented, or that what was presented was made from, for the audit log."""
    rules: tuple[str, ...] = field(default=(), compare=False)
    """The keys of the rules that let a workload in."""
    epoch: int = field(default=0, compare=False)
    """The account's when this was loaded: what is issued to it now ends with that."""

    @property
    def key(self) -> str:
        """What belongs to the principal is kept by: an account's id, since its name may be another's later."""
        return self.id or self.name


ANONYMOUS = Principal("anonymous")
"""The sender of a request without credentials, who has no grants."""
