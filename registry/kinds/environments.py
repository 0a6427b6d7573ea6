"""Images of named environments, which are built when somebody changes what is written down."""

from __future__ import annotations

import math

from aiohttp import web

from builder.artifacts.artifact import Artifact
from builder.environments.inputs.reading import LARGEST_LOCK
from builder.environments.life import NamedEnvironments
from builder.image.finished import FinishedImage
from builder.ticket import Ticket
from registry.http.manifests import Prepared, Variants
from registry.http.references import parse_path
from registry.kinds.kind import KINDS
from registry.kinds.stored import StoredKind, accept_header, answer, answer_variants, find_manifest
from registry.kinds.waiting import answer_unfinished, wait_a_while
from registry.rates import caller_of
from storage.environments.publishing import LATEST
from storage.environments.vocabulary import BuildStatus
from storage.errors import RepositoryOfEnvironment, RepositoryUnknown, TagOfNoBuild

PUSHERS_OF_IMAGES = ("docker/", "buildkit/", "containerd/")
"""The programs that push nothing but images, by how their User-Agent begins."""


class Environments(StoredKind):
    """The repository of an environment has its builds' images. A tag means a build: the current one, or one by its id,
    its lock or its day."""

    has_files = True

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self._named = self.parts.environments
        if self._named is not None:
            self._names = self._named.store.environments.names

            def forget() -> None:
                app[KINDS].forget()

            # all kinds are made before any name is of one
            self._names.listen(forget)

    def owns(self, repository: str) -> bool:
        return self._named is not None and repository in self._names

    def refusal(self, request: web.Request, repository: str) -> str | None:
        """Only a file that says what to build may be pushed, which its manifest shows, after its blobs.

        What can be no such file is refused before it is sent.
        """
        deletes = request.method == "DELETE" and parse_path(request.rel_url.raw_path).endpoint != "upload"
        is_image = request.headers.get("User-Agent", "").startswith(PUSHERS_OF_IMAGES)
        if not deletes and not is_image and (request.content_length or 0) <= LARGEST_LOCK:
            return None
        return str(RepositoryOfEnvironment(repository))

    async def answer_tag(self, request: web.Request, repository: str, tag: str, stamp: int) -> web.StreamResponse:
        """Answer with the image of the build that the tag means, waiting for one that is not finished.

        Raises ManifestUnknown, RepositoryUnknown, and BuildFailed where there is no image to answer with.
        """
        named = self._get_named()
        ticket = await named.find_ticket(repository, tag, caller_of(request))
        if ticket is None:
            return await self._answer_stored(request, repository, tag, stamp)
        waited, image = await wait_a_while(request, _ready(ticket))
        if image is None:
            return await answer_unfinished(request, waited, lambda made: self._remember(request, repository, tag, made))
        variants = await self._remember(request, repository, tag, image, await self._find_warning(repository, tag))
        return answer(request, variants.choose(accept_header(request)))

    def file_stem(self, repository: str) -> str:
        return repository.rpartition("/")[2]

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        return await self._get_named().find_file(repository, tag, name, caller_of(request))

    def _get_named(self) -> NamedEnvironments:
        assert self._named is not None, "it owns no name otherwise"
        return self._named

    async def _answer_stored(self, request: web.Request, repository: str, tag: str, stamp: int) -> web.StreamResponse:
        """Answer with what is tagged there, such as a file that somebody pushed."""
        stored = await self.parts.repositories.find_tagged(repository, tag)
        if stored is None:
            if await self._get_named().store.environments.find_of_repository(repository) is None:
                raise RepositoryUnknown(repository)
            raise TagOfNoBuild(repository, tag)
        variants = Variants.pushed(Prepared.of(stored))
        self.memory.keep_tag(repository, tag, variants, stamp)
        return answer_variants(request, variants)

    async def _find_warning(self, repository: str, tag: str) -> tuple[str, ...]:
        """What the pull of `latest` has to know: that a later build than the one it gets has failed."""
        if tag != LATEST:
            return ()
        store = self._get_named().store
        found = await store.environments.find_of_repository(repository)
        if found is None or found.last_build in (None, found.current_build):
            return ()
        assert found.last_build is not None
        last = await store.builds.find(found.last_build)
        if last.status != BuildStatus.FAILED or last.id < (found.current_build or 0):
            return ()
        return (f"this is build {found.current_build}; build {last.id} failed: {last.status_info}",)

    async def _remember(
        self, request: web.Request, repository: str, tag: str, image: FinishedImage, warnings: tuple[str, ...] = ()
    ) -> Variants:
        """The image's manifests, now in memory."""
        # taken after the build, which itself changes the repository, and before the manifests are read
        stamp = self.parts.changes.stamp(repository)
        stored = [await find_manifest(request, repository, variant.digest, stamp) for variant in image.variants]
        variants = Variants.of([each.with_warnings([*warnings, *image.warnings]) for each in stored], math.inf)
        self.memory.keep_tag(repository, tag, variants, stamp)
        return variants


async def _ready(ticket: Ticket[FinishedImage]) -> Ticket[FinishedImage]:
    return ticket
