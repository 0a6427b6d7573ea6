"""Rules of who may do what, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from auth.permission import Permission
from auth.principal import Principal


@dataclass
class ClosedAccess:
    """An Access that grants nothing, and remembers what it was asked."""

    asked: list[tuple[Principal, Permission, str]] = field(default_factory=list)

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        self.asked.append((principal, permission, entity))
        return False
