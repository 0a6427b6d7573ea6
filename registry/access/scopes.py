"""What a token is asked for, `repository:NAME:pull,push`, and what of it is granted.

distribution, "Token Scope Documentation". What nobody can make sense of is granted to nobody, and is no error: clients
ask for more than they need, and for what other registries know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from auth.permission import Permission
from auth.principal import Scopes
from registry.errors import ScopesInvalid
from registry.kinds.kind import PERMISSIONS
from storage.oci import LONGEST_REPOSITORY, is_repository

MOST_SCOPES = 24
MOST_CHARACTERS = 4096
"""Of all scopes together: a token that says more would not fit into a request's header."""

ALL = "*"
CATALOG = "registry:catalog"
"""The list of repositories, as scopes name it."""

# a type may have a class in parentheses, which says what images are for and changes nothing here
_SCOPE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]+\))?:([^\s]*):([a-z,*]+)")


class Scope(NamedTuple):
    kind: str
    name: str
    actions: frozenset[str]

    @property
    def resource(self) -> str:
        return f"{self.kind}:{self.name}"


IsGranted = Callable[[Permission, str], bool]
"""Whether a permission on a repository is granted to who asks for the token."""


def parse_scopes(texts: Iterable[str]) -> list[Scope]:
    """The scopes that can be understood, each resource once; raises ScopesInvalid when there are too many."""
    words = [word for text in texts for word in text.split()]
    if len(words) > MOST_SCOPES or sum(map(len, words)) > MOST_CHARACTERS:
        raise ScopesInvalid(MOST_SCOPES, MOST_CHARACTERS)
    found: dict[str, Scope] = {}
    for parsed in map(_SCOPE.fullmatch, words):
        if parsed is None:
            continue
        kind, name, actions = parsed[1], parsed[2], frozenset(parsed[3].split(",")) - {""}
        scope = Scope(kind, name, actions)
        before = found.get(scope.resource)
        found[scope.resource] = scope if before is None else scope._replace(actions=actions | before.actions)
    return list(found.values())


def grant_scopes(asked: Iterable[Scope], is_granted: IsGranted) -> Scopes:
    """What of `asked` is granted; resources of which nothing is are left out."""
    granted = {scope.resource: _grant(scope, is_granted) for scope in asked}
    return {resource: actions for resource, actions in granted.items() if actions}


def _grant(scope: Scope, is_granted: IsGranted) -> frozenset[str]:
    if scope.resource == CATALOG:
        # the list shows to everybody what they may read
        return scope.actions & {ALL}
    if scope.kind != "repository" or len(scope.name) > LONGEST_REPOSITORY or not is_repository(scope.name):
        return frozenset()
    asked = PERMISSIONS.keys() if ALL in scope.actions else scope.actions
    return frozenset(
        action for action, permission in PERMISSIONS.items() if action in asked and is_granted(permission, scope.name)
    )


def write_scopes(scopes: Scopes) -> str:
    """As the field `scope` of an answer has them."""
    return " ".join(f"{resource}:{','.join(sorted(actions))}" for resource, actions in scopes.items())
