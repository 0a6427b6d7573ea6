"""What a principal may do with repositories."""

from __future__ import annotations

from typing import Literal, Protocol

from auth.principal import Principal

Action = Literal["pull", "push", "delete"]


class Access(Protocol):
    """Decides; called for every request, so it must not wait for anything."""

    def may(self, principal: Principal, action: Action, repository: str) -> bool: ...


class OpenAccess:
    """Everybody may do everything: for trusted networks."""

    def may(self, principal: Principal, action: Action, repository: str) -> bool:
        return True
