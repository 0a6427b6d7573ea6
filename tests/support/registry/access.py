"""Access rules for tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from auth.permission import Permission
from auth.principal import Principal


@dataclass(frozen=True)
class GrantedAccess:
    """An Access that grants everybody the listed permissions, and nothing else."""

    granted: frozenset[tuple[Permission, str]]

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        return (permission, entity) in self.granted


@dataclass
class ClosedAccess:
    """An Access that grants nothing, and records what was asked."""

    asked: list[tuple[Principal, Permission, str]] = field(default_factory=list)

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        self.asked.append((principal, permission, entity))
        return False
