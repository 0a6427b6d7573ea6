"""The protocol of kinds of repositories, and which kind a name is of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """What must have been granted to whoever asks."""

    permission: Permission
    entity: str
    """`namespace/name`, as bindings of roles match it."""


def is_granted(request: web.Request, need: Need) -> bool:
    """Whether whoever sent `request` has been granted `need`."""
    return request.app[PARTS].access.may(request[PRINCIPAL], need.permission, need.entity)


def check_granted(request: web.Request, need: Need) -> None:
    """Raises Denied."""
    if not is_granted(request, need):
        raise Denied(f"{need.permission} on {need.entity} is not granted to you")


class RepositoryKind(Protocol):
    """One rule for the repositories whose names it owns. It is made when the server starts, and serves all requests.

    The four `get_` answer GET and HEAD. They and `find_file` raise the errors of `registry.answers`, and are called for
    names that this kind owns alone, after `needs` has been asked for and granted.
    """

    listed: bool
    """Whether the catalog lists these repositories."""

    def owns(self, repository: str) -> bool:
        """Whether `repository` is of this kind. Asked for every request, so it waits for nothing."""

    def scope(self, repository: str) -> str:
        """The repository in the database that has what `repository` has."""

    def refusal(self, repository: str) -> str | None:
        """Why nobody may push to `repository` or delete from it, as a sentence; None where rights decide.

        What is pushed or deleted is that of the name itself, so there `scope` has to be the name, too.
        """

    def needs(self, permission: Permission, repository: str) -> Need:
        """What `permission`, which the route's row names, comes to for `repository`."""

    async def shows(self, repository: str, digest: Digest) -> bool:
        """Whether who may read `repository` may read the manifest or blob `digest`, if its scope has that.

        Where several names that need different grants share a scope, this keeps what is one's from the others.
        """

    async def get_manifest(self, request: web.Request, target: Target) -> web.StreamResponse:
        """The manifest of a digest, or what a tag means."""

    async def get_blob(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    async def get_tags(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    async def get_referrers(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        """The file `name` beside the image `repository:tag`; raises NoFiles where there are none."""


MakeKind = Callable[[Parts], RepositoryKind]


class Kinds:
    """Which kind a name is of: the first that owns it. The last owns every name."""

    def __init__(self, kinds: Sequence[RepositoryKind]) -> None:
        self._kinds = tuple(kinds)

    def of(self, repository: str) -> RepositoryKind:
        for kind in self._kinds:
            if kind.owns(repository):
                return kind
        raise LookupError(f"no kind of repository owns {repository!r}; the last one has to own every name")


KINDS = web.AppKey("kinds", Kinds)
KIND = web.RequestKey[RepositoryKind]("kind", RepositoryKind)
"""The kind of the repository that the request's path names; `registry.dispatch` asks once which it is."""
