"""The protocol of kinds of repositories, and which kind a name is of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from aiohttp import web

from auth.permission import Permission
from builder.work.claims import Caller
from registry.http.references import Target
from registry.parts import Artifact, Parts, Ticket


class Files(Protocol):
    """Files beside the manifests of a kind's repositories."""

    async def artifact(self, repository: str, tag: str, name: str, caller: Caller) -> Ticket[Artifact]:
        """The file `name` of `repository:tag`; raises BuilderError at once for a bad name."""


class Need(NamedTuple):
    """What must have been granted to whoever asks."""

    permission: Permission
    entity: str
    """`namespace/name`, as bindings of roles match it."""


class RepositoryKind(Protocol):
    """One rule for the repositories whose names it owns. It is made when the server starts, and serves all requests.

    The four `get_` answer GET and HEAD. They raise the errors of `registry.answers`, and are only called for names that
    this kind owns, after `needs` has been asked for and granted.
    """

    listed: bool
    """Whether the catalog lists these repositories."""

    files: Files | None
    """None where no files are beside the manifests."""

    def owns(self, repository: str) -> bool:
        """Whether `repository` is of this kind. Asked for every request, so it waits for nothing."""

    def scope(self, repository: str) -> str:
        """The repository in the database that has what `repository` has."""

    def refusal(self, repository: str) -> str | None:
        """Why nobody may push to `repository` or delete from it, as a sentence; None where rights decide."""

    def needs(self, permission: Permission, repository: str) -> Need:
        """What `permission`, which the route's row names, comes to for `repository`."""

    async def get_manifest(self, request: web.Request, target: Target) -> web.StreamResponse:
        """The manifest of a digest, or what a tag means."""

    async def get_blob(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    async def get_tags(self, request: web.Request, target: Target) -> web.StreamResponse: ...

    async def get_referrers(self, request: web.Request, target: Target) -> web.StreamResponse: ...


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
