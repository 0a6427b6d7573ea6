"""One thing that somebody did or was refused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from auth.principal import Principal, PrincipalKind
from storage.text import printable, printable_line, redact

Outcome = Literal["allowed", "denied"]

ActorKind = PrincipalKind | Literal["operator"]
"""An operator is a person who runs `condery` on the store itself."""

MOST_CHARACTERS = {"principal": 255, "client": 64, "action": 64, "entity": 512, "request": 128}
MOST_OF_DETAIL = 1000
"""Characters of a text among the details."""


@dataclass(frozen=True)
class AuditEvent:
    """`action` is a noun and a verb, such as manifest.push or role.bind; `entity` is its object."""

    principal: str
    principal_kind: ActorKind
    action: str
    entity: str
    outcome: Outcome
    token: str = ""
    client: str = ""
    """An address."""
    request: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    """What counts as the same client; it is not stored."""
    time: float = field(default_factory=time.time)

    @classmethod
    def by(
        cls, principal: Principal, action: str, entity: str, outcome: Outcome = "allowed", **rest: Any
    ) -> AuditEvent:
        return cls(principal.name, principal.kind, action, entity, outcome, token=principal.token, **rest)

    def texts(self) -> dict[str, str]:
        """The fields that come from outside, printable, without tokens, and no longer than their columns."""
        return {name: redact(printable_line(str(getattr(self, name))))[:most] for name, most in MOST_CHARACTERS.items()}

    def details(self) -> dict[str, Any]:
        """`detail`, likewise."""
        return {
            name: redact(printable(value))[:MOST_OF_DETAIL] if isinstance(value, str) else value
            for name, value in self.detail.items()
        }
