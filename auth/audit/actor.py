"""Who changes something about access, as far as the audit log tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from auth.audit.event import ActorKind, AuditEvent
from auth.principal import Principal


@dataclass(frozen=True)
class Actor:
    """A principal in a request, or an operator: somebody who runs `condery` on the store itself."""

    name: str
    kind: ActorKind
    token: str = ""
    client: str = ""
    request: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of them."""

    @classmethod
    def of(cls, principal: Principal, client: str = "", request: str = "") -> Self:
        """`client` is an address, `request` the id of a request."""
        return cls(principal.name, principal.kind, principal.token, client, request)

    @classmethod
    def operator(cls, **detail: Any) -> Self:
        return cls("operator", "operator", detail=detail)

    def did(self, action: str, entity: str, **detail: Any) -> AuditEvent:
        """The event that they did `action` to `entity`."""
        return AuditEvent(
            self.name,
            self.kind,
            action,
            entity,
            "allowed",
            token=self.token,
            client=self.client,
            request=self.request,
            detail={**self.detail, **detail},
        )
