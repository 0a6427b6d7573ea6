"""What a principal may do with which entity."""

from __future__ import annotations

from typing import Protocol

from auth.permission import Permission
from auth.principal import Principal


class Access(Protocol):
    """Decides; called for every request, so it must not wait for anything."""

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        """Whether `permission` on `entity`, a `namespace/name`, is granted to `principal`."""


class OpenAccess:
    """Everybody may do everything: for trusted networks."""

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        return True
