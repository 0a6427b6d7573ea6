"""An `auth.access.Access` that allows everybody everything, for tests that are not about who may do what."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from auth.permission import Permission
from auth.principal import Principal
from storage.repositories.places import EVERYWHERE, Places


class OpenAccess:
    """The server has none like it: there, what anybody may do is bound like everything else."""

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        return True

    def patterns(self, principal: Principal, permission: Permission) -> Sequence[Collection[str]]:
        return [("*/*",)]

    def may_everywhere(self, principal: Principal, permission: Permission) -> bool:
        return True

    def may_within(self, principal: Principal, permission: Permission, namespace: str) -> bool:
        return True

    def places(self, principal: Principal, permission: Permission) -> Places:
        return EVERYWHERE
