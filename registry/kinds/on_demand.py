"""Repositories whose names say what their images contain; a pull builds them. All are stored in one, the root."""

from __future__ import annotations

from aiohttp import web

from auth.audit.floods import BUILD
from auth.permission import Permission
from builder.artifacts.artifact import Artifact
from builder.image.finished import FinishedImage
from builder.ticket import Ticket
from builder.work.claims import Begun, Permit
from registry.http.manifests import Variants
from registry.http.references import Target
from registry.kinds import pages
from registry.kinds.kind import Need, check_granted
from registry.kinds.stored import StoredKind, accept_header, answer, find_manifest
from registry.kinds.waiting import answer_unfinished, wait_a_while
from registry.observer import PRINCIPAL
from registry.rates import caller_of
from registry.trail import actor_of


class OnDemand(StoredKind):
    """A tag points to an image that is in the database and fresh, or else to one that is built now."""

    listed = False
    """There is no end of names."""
    has_files = True

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self._root = self.parts.demand.root
        # one for all: they share their content, and which name asked for it first means nothing
        self._entity = f"{self._root}/*"

    def owns(self, repository: str) -> bool:
        return self.parts.demand.owns(repository)

    def scope(self, repository: str) -> str:
        return self._root

    def refusal(self, request: web.Request, repository: str) -> str | None:
        return f"{repository} is made from its name, so nothing can be pushed to it or deleted from it"

    def needs(self, permission: Permission, repository: str) -> Need:
        # who has an image built pulls it: nothing is pushed there, and no client would ask to
        return Need(permission, self._entity, repository, "pull")

    async def get_tags(self, request: web.Request, target: Target) -> web.StreamResponse:
        """The tags that this repository was requested by so far."""
        pages.read_page(request.query)  # a bad query is reported before a bad name
        return pages.answer_tags(request, target, sorted(await self.parts.demand.tags(target.repository)))

    async def answer_tag(self, request: web.Request, repository: str, tag: str, stamp: int) -> web.StreamResponse:
        """Answer from the catalog, or with a build and the rules of `registry.kinds.waiting`."""
        permit = self._permit(request, repository, tag)
        asking = self.parts.demand.image(repository, tag, caller_of(request), permit)
        ticket, image = await wait_a_while(request, asking)
        if image is not None:
            variants = await self._remember(request, repository, tag, image)
            return answer(request, variants.choose(accept_header(request)).with_stale(ticket.stale))
        return await answer_unfinished(request, ticket, lambda made: self._remember(request, repository, tag, made))

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        permit = self._permit(request, repository, tag)
        return await self.parts.demand.artifact(repository, tag, name, caller_of(request), permit)

    def _permit(self, request: web.Request, repository: str, tag: str) -> Permit:
        """Reading is enough for what is there; a build requires another grant, and that its sender wants it."""

        def permit() -> Begun:
            check_granted(request, self.parts, self.needs(Permission.ENVIRONMENT_CREATE, repository))
            self.parts.authentication.check_wish(request, request[PRINCIPAL])
            # the client may be gone when the build has begun
            actor = actor_of(request, request[PRINCIPAL])
            return lambda: self.parts.audit.note(actor.did(BUILD, repository, tag=tag))

        return permit

    async def _remember(self, request: web.Request, repository: str, tag: str, image: FinishedImage) -> Variants:
        """The image's manifests, now in memory."""
        scope = self.scope(repository)
        # taken after the build, which itself changes the scope, and before the manifests are read
        stamp = self.parts.changes.stamp(scope)
        stored = [await find_manifest(request, scope, variant.digest, stamp) for variant in image.variants]
        variants = Variants.of([each.with_warnings(image.warnings) for each in stored], image.expires)
        self.memory.keep_tag(repository, tag, variants, stamp)
        return variants
