"""The protocol of kinds of repositories, and which kind a name belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from aiohttp import web

from auth.permission import Permission
from builder.artifacts.artifact import Artifact
from builder.demand import Ticket
from registry.errors import Denied
from registry.http.references import Target
from registry.observer import PRINCIPAL
from registry.parts import PARTS, Parts
from storage.digest import Digest


class Need(NamedTuple):
    """The grant that a request requires."""

    permission: Permission
    entity: str
    """`namespace/name`, as role bindings match it."""


def is_granted(request: web.Request, need: Need) -> bool:
    """Whether the sender of `request` has been granted `need`."""
    return request.app[PARTS].access.may(request[PRINCIPAL], need.permission, need.entity)


def check_granted(request: web.Request, need: Need) -> None:
    """Raise Denied unless `need` is granted."""
    # as `is_granted`, a call of which every pull would pay for
    if not request.app[PARTS].access.may(request[PRINCIPAL], need.permission, need.entity):
        raise Denied(f"{need.permission} on {need.entity} is not granted to you")


class RepositoryKind(Protocol):
    """One rule for the repositories whose names it owns. It is made when the server starts, and serves all requests.

    The four `get_` methods answer GET and HEAD. They and `find_file` raise the errors of `registry.answers`. They are
    called only for names that this kind owns, after `needs` was checked and granted.
    """

    listed: bool
    """Whether the catalog lists these repositories."""

    def owns(self, repository: str) -> bool:
        """Whether `repository` is of this kind, which never changes. Called for many requests, so it must not wait."""

    def scope(self, repository: str) -> str:
        """The repository in the database that holds the content of `repository`."""

    def refusal(self, repository: str) -> str | None:
        """Why nobody may push to `repository` or delete from it, as a sentence; None if permissions decide.

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

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        """The file `name` beside the image `repository:tag`; raises NoFiles if there are none."""


MakeKind = Callable[[Parts], RepositoryKind]


class Kinds:
    """Finds the kind of a name: the first that owns it. The last kind owns every name."""

    def __init__(self, kinds: Sequence[RepositoryKind]) -> None:
        self._kinds = tuple(kinds)
        self.of = lru_cache(maxsize=4096)(self._find)
        """Returns the kind of a repository's name."""

    def _find(self, repository: str) -> RepositoryKind:
        for kind in self._kinds:
            if kind.owns(repository):
                return kind
        raise LookupError(f"no kind of repository owns {repository!r}; the last one has to own every name")


KINDS = web.AppKey("kinds", Kinds)
KIND = web.RequestKey[RepositoryKind]("kind", RepositoryKind)
"""The kind of the repository in the request's path; `registry.dispatch` sets it once."""
