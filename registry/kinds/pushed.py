"""Repositories that clients push to: every name that no other kind owns."""

from __future__ import annotations

from aiohttp import web

from builder.artifacts.artifact import Artifact
from builder.ticket import Ticket
from registry.errors import NoFiles
from registry.http.manifests import Prepared, Variants
from registry.kinds.near import suggest_environments
from registry.kinds.stored import StoredKind, answer_variants
from storage.errors import ManifestUnknown, RepositoryUnknown
from storage.suggestions import find_near


class Pushed(StoredKind):
    """A tag points to what was last pushed under it."""

    def owns(self, repository: str) -> bool:
        return True

    async def answer_tag(self, request: web.Request, repository: str, tag: str, stamp: int) -> web.StreamResponse:
        """Raises ManifestUnknown, RepositoryUnknown."""
        repositories = self.parts.repositories
        stored = await repositories.find_tagged(repository, tag)
        if stored is None:
            if not await repositories.exists(repository):
                hint = await suggest_environments(request, repository) or _hint(repository, self.parts.demand.root)
                raise RepositoryUnknown(repository, hint.removeprefix("; "))
            raise ManifestUnknown(repository, tag)
        variants = Variants.pushed(Prepared.of(stored))
        self.memory.keep_tag(repository, tag, variants, stamp)
        return answer_variants(request, variants)

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        raise NoFiles(repository, self.parts.demand.root, name, await suggest_environments(request, repository))


def _hint(repository: str, root: str) -> str:
    """Where the image on demand is that was meant, if the name looks like one of those; empty otherwise."""
    first, slash, rest = repository.partition("/")
    if slash and not find_near(first, [root], cutoff=0.8):
        return ""
    return f"on-demand images are below {root}/: did you mean {root}/{rest if slash else first}?"
