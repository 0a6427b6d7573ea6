"""Access rules for tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from auth.permission import Permission
from auth.principal import Principal
from auth.settings import AccessSettings
from storage.repositories.places import EVERYWHERE, Places

CLOSED = AccessSettings(anonymous_bindings=("none",))
"""Nobody may do anything without signing in."""


@dataclass(frozen=True)
class GrantedAccess:
    """An Access that grants everybody the listed permissions, and nothing else."""

    granted: frozenset[tuple[Permission, str]]

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        return (permission, entity) in self.granted

    def patterns(self, principal: Principal, permission: Permission) -> Sequence[Collection[str]]:
        return [[entity for granted, entity in self.granted if granted is permission]]

    def may_everywhere(self, principal: Principal, permission: Permission) -> bool:
        return False

    def may_within(self, principal: Principal, permission: Permission, namespace: str) -> bool:
        return any(granted is permission and entity.startswith(f"{namespace}/") for granted, entity in self.granted)

    def places(self, principal: Principal, permission: Permission) -> Places:
        return EVERYWHERE


@dataclass
class ClosedAccess:
    """An Access that grants nothing, and records what was asked."""

    asked: list[tuple[Principal, Permission, str]] = field(default_factory=list)

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        self.asked.append((principal, permission, entity))
        return False

    def patterns(self, principal: Principal, permission: Permission) -> Sequence[Collection[str]]:
        return [()]

    def may_everywhere(self, principal: Principal, permission: Permission) -> bool:
        return False

    def may_within(self, principal: Principal, permission: Permission, namespace: str) -> bool:
        return False

    def places(self, principal: Principal, permission: Permission) -> Places:
        return Places((), ())
