"""The protocol of kinds of repositories, and which kind a name belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from aiohttp import web

from auth.permission import Permission
from auth.principal import Principal, Scopes
from auth.refusal import BUILD, refuse
from builder.artifacts.artifact import Artifact
from builder.ticket import Ticket
from registry.errors import Denied, Unauthorized
from registry.http.references import Target
from registry.observer import PRINCIPAL
from registry.parts import PARTS, Parts
from storage.digest import Digest

Action = Literal["pull", "push", "delete"]
"""The actions that registry tokens are issued for."""

PERMISSIONS: Mapping[Action, Permission] = {
    "pull": Permission.ENVIRONMENT_READ,
    "push": Permission.ENVIRONMENT_CREATE,
    "delete": Permission.ENVIRONMENT_DELETE,
}
"""What somebody needs to get a token for an action."""

ACTIONS: Mapping[Permission, Action] = {
    **{permission: action for action, permission in PERMISSIONS.items()},
    Permission.ENVIRONMENT_UPDATE: "push",
}
"""What a token has to be for before a permission can be used with it."""

_ASKED: Mapping[Action, str] = {"pull": "pull", "push": "pull,push", "delete": "delete"}
"""The actions of the token that a client is told to request: before a push it looks for what is there already."""


class Need(NamedTuple):
    """The grant that a request requires, of its sender and of the registry token that they use."""

    permission: Permission
    entity: str
    """`namespace/name`, as role bindings match it."""
    repository: str
    """The name in the request: registry tokens are issued for names."""
    action: Action

    @property
    def scope(self) -> str:
        """The scope of a token that allows it."""
        return f"repository:{self.repository}:{_ASKED[self.action]}"


def need_of(permission: Permission, repository: str, entity: str | None = None) -> Need:
    """The need of `permission` for `repository`, on the repository itself unless `entity` is another."""
    return Need(permission, entity or repository, repository, ACTIONS[permission])


def is_granted(request: web.Request, need: Need) -> bool:
    """Whether the sender of `request` has been granted `need`, and the token in it was issued for that."""
    principal = request[PRINCIPAL]
    return is_permitted(request, need) and (principal.scopes is None or _is_in_scope(principal.scopes, need))


def is_permitted(request: web.Request, need: Need) -> bool:
    """Whether the sender has been granted `need`, whatever the token was issued for: used for lists of repositories."""
    return request.app[PARTS].access.may(request[PRINCIPAL], need.permission, need.entity)


def check_granted(request: web.Request, parts: Parts, need: Need) -> None:
    """Raise Denied unless `need` is granted, or Unauthorized if signing in or another token may help.

    `parts` are the application's, which every caller has at hand: finding them takes a part of each pull's time.
    """
    principal = request[PRINCIPAL]
    # as `is_permitted`, a call of which every pull would pay for
    if not parts.access.may(principal, need.permission, need.entity):
        raise _refuse(request, need)
    if principal.scopes is not None and not _is_in_scope(principal.scopes, need):
        # podman and skopeo then request a token for this scope; docker reports that access is denied
        message = f"the token was not issued for {need.scope}; ask for one that is"
        raise parts.authentication.challenge(request, need.scope, "insufficient_scope", message)


def _is_in_scope(scopes: Scopes, need: Need) -> bool:
    actions = scopes.get(f"repository:{need.repository}", frozenset())
    return need.action in actions or "*" in actions


def _refuse(request: web.Request, need: Need) -> Denied | Unauthorized:
    """The refusal, which must not depend on whether the repository exists."""
    principal = request[PRINCIPAL]
    builds = need.permission is Permission.ENVIRONMENT_CREATE and need.action == "pull"
    refusal = refuse(principal, need.permission, need.entity, BUILD if builds else None)
    if principal.kind != "anonymous":
        return Denied(refusal + _advise(principal, need))
    refusal += "; sign in with docker login"
    if "Authorization" in request.headers:
        # an anonymous token: signing in was offered when the client was sent for it
        return Denied(refusal)
    return request.app[PARTS].authentication.challenge(request, need.scope, message=refusal)


def _advise(principal: Principal, need: Need) -> str:
    """What somebody may have meant who pushes to a name without a namespace."""
    if need.permission is not Permission.ENVIRONMENT_CREATE or "/" in need.entity:
        return ""
    own = principal.name if principal.kind == "person" else "NAMESPACE"
    return f", or put a namespace in front of the name: {own}/{need.repository}"


class RepositoryKind(Protocol):
    """One rule for the repositories whose names it owns. It is made when the server starts, and serves all requests.

    The four `get_` methods answer GET and HEAD. They and `find_file` raise the errors of `registry.answers`. They are
    called only for names that this kind owns, after `needs` was checked and granted.
    """

    listed: bool
    """Whether the catalog lists these repositories. Then the entity of one that is stored is its name."""

    def owns(self, repository: str) -> bool:
        """Whether `repository` is of this kind. Called for many requests, so it must not wait.

        Where that changes, the kind has `Kinds.forget` called.
        """

    def scope(self, repository: str) -> str:
        """The repository in the database that holds the content of `repository`."""

    def refusal(self, request: web.Request, repository: str) -> str | None:
        """Why nobody may push or delete as `request` does, as a sentence; None if permissions decide.

        Pushes and deletions go to the name itself, so if this returns None, `scope` must be the name, too.
        """

    def needs(self, permission: Permission, repository: str) -> Need:
        """The grant that `permission`, from the route's row, requires for `repository`."""

    async def shows(self, repository: str, digest: Digest) -> bool:
        """Whether readers of `repository` may read the manifest or blob `digest` that its scope has.

        If several names that need different grants share a scope, this keeps their content apart.
        """

    async def get_manifest(self, request: web.Request, target: Target) -> web.StreamResponse:
        """The manifest of a digest, or the one that a tag points to."""

    async def get_blob(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    async def get_tags(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    async def get_referrers(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    def file_stem(self, repository: str) -> str:
        """How names of files begin that somebody saves; empty for the packages that were asked for."""

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        """The file `name` beside the image `repository:tag`; raises NoFiles if there are none."""


MakeKind = Callable[[web.Application], RepositoryKind]
"""Makes a kind for an application whose parts are open. It also takes from there what it needs for each request."""


class Kinds:
    """Finds the kind of a name: the first that owns it. The last kind owns every name."""

    def __init__(self, kinds: Sequence[RepositoryKind]) -> None:
        self._kinds = tuple(kinds)
        unlisted = [number for number, kind in enumerate(kinds) if not kind.listed]
        self._before_listed = self._kinds[: max(unlisted, default=-1) + 1]
        self.of = lru_cache(maxsize=4096)(self._find)
        """Returns the kind of a repository's name."""
        self.need = lru_cache(maxsize=4096)(self._find_need)
        """Returns the grant that a permission requires for the repository of a name."""

    def lists(self, repository: str) -> bool:
        """Whether the catalog lists it: `of(repository).listed`, without pushing other names out of memory."""
        for kind in self._before_listed:
            if kind.owns(repository):
                return kind.listed
        return True

    def forget(self) -> None:
        """Find the kinds of all names anew: some names have become another kind's."""
        self.of.cache_clear()
        self.need.cache_clear()

    def _find(self, repository: str) -> RepositoryKind:
        for kind in self._kinds:
            if kind.owns(repository):
                return kind
        raise LookupError(f"no kind of repository owns {repository!r}; the last one has to own every name")

    def _find_need(self, permission: Permission, repository: str) -> Need:
        need: Need = self.of(repository).needs(permission, repository)
        return need


KINDS = web.AppKey("kinds", Kinds)
KIND = web.RequestKey[RepositoryKind]("kind", RepositoryKind)
"""The kind of the repository in the request's path; `registry.dispatch` sets it once."""
