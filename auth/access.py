"""What a principal may do with which entity: one pure function, and the binding that decides."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from auth.binding import Binding
from auth.permission import Permission
from auth.principal import Principal
from storage.repositories.places import Places


class Access(Protocol):
    """Decides; called for every request, so it must not wait."""

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        """Whether `permission` on `entity`, a `namespace/name`, is granted to `principal`."""

    def may_everywhere(self, principal: Principal, permission: Permission) -> bool:
        """Whether `may` is known to be true for every entity, so that a long list need not ask for each."""

    def may_within(self, principal: Principal, permission: Permission, namespace: str) -> bool:
        """Whether `may` can be true for anything in a namespace."""

    def places(self, principal: Principal, permission: Permission) -> Places:
        """Where all repositories are on which `permission` is granted to `principal`, and perhaps others."""

    def patterns(self, principal: Principal, permission: Permission) -> Sequence[Collection[str]]:
        """`permission` is granted on exactly those names below namespaces that one pattern of each of these matches."""


def may(principal: Principal, permission: Permission, entity: str) -> bool:
    """Whether `principal` was granted `permission` on `entity`, and each limit of their credentials allows it too."""
    if principal.grants.find(permission, entity) is None:
        return False
    # most have none, and going through none takes longer than finding the grant
    return not principal.limits or all(limit.find(permission, entity) is not None for limit in principal.limits)


class GrantedAccess:
    """Decides by what was loaded with the principal."""

    may = staticmethod(may)

    def may_everywhere(self, principal: Principal, permission: Permission) -> bool:
        return all(grants.is_everywhere(permission) for grants in (principal.grants, *principal.limits))

    def may_within(self, principal: Principal, permission: Permission, namespace: str) -> bool:
        return all(grants.reaches(permission, namespace) for grants in (principal.grants, *principal.limits))

    def patterns(self, principal: Principal, permission: Permission) -> Sequence[Collection[str]]:
        return [grants.patterns(permission) for grants in (principal.grants, *principal.limits)]

    def places(self, principal: Principal, permission: Permission) -> Places:
        # what all of them grant is among what each of them grants
        each = (grants.places(permission) for grants in (principal.grants, *principal.limits))
        return min(each, key=lambda places: places.cost)


@dataclass(frozen=True)
class Decision:
    """Why `may` answers as it does."""

    granted: bool
    binding: Binding | None
    """The binding that grants it; None if there is none."""
    near: tuple[Binding, ...] = ()
    """Bindings on the entity whose roles lack the permission."""
    limited: bool = False
    """Whether the principal has the grant but the presented token does not."""


def explain(principal: Principal, permission: Permission, entity: str) -> Decision:
    """Find the binding that decides, or the ones near it."""
    binding = principal.grants.find(permission, entity)
    limited = binding is not None and not may(principal, permission, entity)
    near = () if binding is not None else tuple(principal.grants.matching(entity))
    return Decision(binding is not None and not limited, binding, near, limited)
