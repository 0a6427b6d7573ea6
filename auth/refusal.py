"""What somebody is told who may not do something: in people's words, with the permission, and with whom to ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from auth.permission import Permission
from auth.principal import Principal
from auth.role import ADMIN, EDITOR, VIEWER

_DOING: Mapping[Permission, str] = {
    Permission.ENVIRONMENT_READ: "pull from",
    Permission.ENVIRONMENT_CREATE: "push to",
    Permission.ENVIRONMENT_UPDATE: "move tags of",
    Permission.ENVIRONMENT_SOLVE: "have environments solved in",
    Permission.ENVIRONMENT_DELETE: "delete from",
    Permission.BUILD_CANCEL: "cancel builds of",
    Permission.BUILD_DELETE: "delete builds of",
    Permission.NAMESPACE_READ: "see",
    Permission.NAMESPACE_CREATE: "create",
    Permission.NAMESPACE_UPDATE: "change",
    Permission.NAMESPACE_DELETE: "delete",
    Permission.NAMESPACE_ROLE_MAPPING_READ: "see the bindings of",
    Permission.NAMESPACE_ROLE_MAPPING_CREATE: "bind roles on",
    Permission.NAMESPACE_ROLE_MAPPING_UPDATE: "change the bindings of",
    Permission.NAMESPACE_ROLE_MAPPING_DELETE: "end bindings of",
    Permission.SETTING_READ: "see the settings of",
    Permission.SETTING_UPDATE: "change the settings of",
    Permission.AUDIT_READ: "read the audit log of",
}
"""What a permission lets people do with the entity that is named after it."""

_DOING_WITH_ENVIRONMENTS: Mapping[Permission, str] = {
    Permission.ENVIRONMENT_READ: "see",
    Permission.ENVIRONMENT_CREATE: "create",
    Permission.ENVIRONMENT_UPDATE: "change",
    Permission.ENVIRONMENT_DELETE: "delete",
}
"""The same in the words of the REST API, whose clients push and pull nothing."""

BUILD: Final = "have images or files built in"
"""What `environment::create` lets people do where images are made on demand."""


def refuse(principal: Principal, permission: Permission, entity: str, doing: str | None = None) -> str:
    """Say that `principal` may not, and what to do about it; `doing` replaces the usual words for the permission.

    The text depends on what was granted to the principal and on nothing that is stored.
    """
    what = f"{doing or _DOING[permission]} {entity}"
    if principal.kind == "anonymous":
        return f"whoever is not signed in may not {what} ({permission})"
    if principal.limits and principal.grants.find(permission, entity) is not None:
        return f"{principal.name} may not {what} with this token ({permission}): {_tell_limits(principal)}"
    # docker itself says before this that one may have to sign in
    known = f", and you are signed in as {principal.name}" if permission is Permission.ENVIRONMENT_READ else ""
    return (
        f"{principal.name} may not {what} ({permission}){known}; "
        f"ask an administrator for the role {_find_role(permission)} there"
    )


def refuse_environment(principal: Principal, permission: Permission, entity: str) -> str:
    """Say the same of an environment, or of all that a namespace has, to a client of the REST API."""
    doing = _DOING_WITH_ENVIRONMENTS.get(permission)
    if doing is not None:
        doing = f"{doing} environments in" if entity.endswith("*") else f"{doing} the environment"
    return refuse(principal, permission, entity, doing)


def _tell_limits(principal: Principal) -> str:
    if principal.kind == "robot":
        return "its owner may not do it either, or the token's limits leave it out"
    return "the token's limits leave it out; use the password, or a token whose limits have it"


def _find_role(permission: Permission) -> str:
    """The built-in role with the least that has the permission."""
    return next(role.name for role in (VIEWER, EDITOR, ADMIN) if permission in role.permissions)
