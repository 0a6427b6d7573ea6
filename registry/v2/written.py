"""An environment file that is pushed as an artifact, with `oras push` for example: what it says is built.

The artifact is an image manifest whose one layer is the file, or whose two layers are a manifest of pixi and its lock.
It is stored in the transaction that records the build, or not at all, under the tag `file-<build>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit.log import append, name_build
from auth.errors import NameUnfit
from auth.permission import Permission
from auth.refusal import refuse_environment
from builder.artifacts.referrers import TYPES
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.inputs.reading import LARGEST_LOCK
from builder.environments.repository import write_repository
from builder.errors import InputInvalid
from builder.locks.formats import CONDA_LOCK, ENVIRONMENT_FILE, EXPLICIT, PIXI
from registry.errors import Denied
from registry.http.manifests import warning
from registry.kinds.extended import check_extended
from registry.kinds.kind import KIND, is_granted
from registry.kinds.refused import refusing_specification
from registry.observer import PRINCIPAL
from registry.parts import PARTS, room_for
from registry.rates import caller_of
from registry.trail import actor_of
from storage.digest import Descriptor, Digest
from storage.environments.publishing import write_file_tag
from storage.environments.vocabulary import BuildStatus, Environment, EnvironmentBuild
from storage.errors import BlobUnknown, ManifestBlobUnknown, SizeMismatch
from storage.events.outbox import Record
from storage.oci import DOCKER_CONFIG, OCI_CONFIG, OCI_MANIFEST
from storage.repositories.manifest_document import ManifestDocument
from storage.repositories.rows import Push

MANIFEST_OF_PIXI = "application/vnd.pixi.toml.v1+toml"
"""As nebi has it, which pushes pixi.toml and pixi.lock as one artifact."""
FILES: Mapping[str, str] = {
    MANIFEST_OF_PIXI: "pixi.toml",
    **{TYPES[each.file_name]: each.file_name for each in (ENVIRONMENT_FILE, PIXI, CONDA_LOCK, EXPLICIT)},
}
"""By the media type of a layer: the name of the file that it is."""
_PIXI_AND_LOCK = {MANIFEST_OF_PIXI, TYPES[PIXI.file_name]}
PARSED = 3
"""How many times its size a file takes from the memory for pushes."""
_MOST_WARNINGS = 5


@dataclass(frozen=True)
class Written:
    """The layer of an artifact that is to be built."""

    layer: Descriptor
    file_name: str


@dataclass(frozen=True)
class Asked:
    """The build that an artifact is of, and what there is to say about it, a sentence each."""

    build: EnvironmentBuild
    told: Sequence[str] = ()

    def add_headers(self, answer: web.Response) -> None:
        """Clients such as oras show warnings to whoever pushes."""
        build = self.build
        answer.headers["Condery-Build"] = str(build.id)
        begun = f"build {build.id} of {build.namespace}/{build.name} is {build.status}: pull {build.repository}"
        for text in [f"{begun}:{build.id}, or :latest when it is complete", *self.told[:_MOST_WARNINGS]]:
            answer.headers.add("Warning", warning(text))


def find_written(document: ManifestDocument) -> Written | None:
    """The environment file that is all that a pushed manifest holds; None for anything else."""
    if document.media_type != OCI_MANIFEST or document.subject is not None or document.optional_blobs:
        return None
    if document.config is None or document.config.media_type in (OCI_CONFIG, DOCKER_CONFIG):
        return None
    layers = {each.media_type: each for each in document.blobs[1:]}
    if len(layers) != len(document.blobs) - 1:
        return None
    if layers.keys() == _PIXI_AND_LOCK:
        # what was locked is built as it is
        del layers[MANIFEST_OF_PIXI]
    if len(layers) != 1:
        return None
    ((media_type, layer),) = layers.items()
    return Written(layer, FILES[media_type]) if media_type in FILES else None


async def ask_for_written(
    request: web.Request, repository: str, written: Written, push: Push, told: Record[None] | None
) -> Asked | None:
    """Store an environment file in the environment's repository, and have what it says built.

    None if `repository` can be no environment's, so that the file is stored as any artifact. Raises InputInvalid,
    SpecificationRefused, Denied, EnvironmentTaken, TooManyBuilds, QuotaExceeded, ManifestBlobUnknown, SizeMismatch.
    """
    parts = request.app[PARTS]
    named, store = parts.environments, parts.stored_environments
    if named is None:
        return None
    found = await store.environments.find_of_repository(repository)
    if found is None and not await _may_become_one(request, repository):
        return None
    if found is not None and (build := await _find_same(request, found, push.manifest.digest)) is not None:
        return Asked(build)
    namespace, _, last = repository.partition("/")
    async with room_for(request, PARSED * min(written.layer.size, LARGEST_LOCK)):
        content = await _read(request, repository, written)
        wanted = await named.wanted.read(content, named.builder.pool, namespace, found.name if found else last)
    await check_extended(request, wanted.extends)
    name, told_of_name = _choose_name(found, wanted, namespace, last)
    record = _recorder(request, repository, push, told)

    async def ask() -> EnvironmentBuild:
        return await named.create(
            namespace, name, wanted, by=request[PRINCIPAL].name, caller=caller_of(request), record=record
        )

    with refusing_specification():
        build = await parts.repositories.room.within(repository, ask)
    return Asked(build, [*told_of_name, *wanted.warnings])


async def _may_become_one(request: web.Request, repository: str) -> bool:
    """Whether a repository that is no environment's has the form of one, and holds nothing that was pushed."""
    parts = request.app[PARTS]
    namespace, _, last = repository.partition("/")
    if not last or "/" in last:
        return False
    try:
        parts.namespaces.check(namespace)
    except NameUnfit:
        return False
    return not await parts.repositories.has_manifests(repository)


async def _find_same(request: web.Request, found: Environment, digest: Digest) -> EnvironmentBuild | None:
    """The last build if it is of this very file: one push may send a manifest once for itself and once for each tag."""
    parts = request.app[PARTS]
    if found.last_build is None:
        return None
    stored = await parts.repositories.find_tagged(found.repository, write_file_tag(found.last_build))
    if stored is None or stored.digest != digest:
        return None
    build = await parts.stored_environments.builds.find(found.last_build)
    return None if build.status in (BuildStatus.FAILED, BuildStatus.CANCELED) else build


async def _read(request: web.Request, repository: str, written: Written) -> bytes:
    """Raises InputInvalid, ManifestBlobUnknown, SizeMismatch."""
    parts, layer = request.app[PARTS], written.layer
    if layer.size > LARGEST_LOCK:
        raise InputInvalid("", f"{written.file_name} has {layer.size} bytes; at most {LARGEST_LOCK} are allowed")
    try:
        blob = await parts.repositories.blob(repository, layer.digest)
    except BlobUnknown:
        raise ManifestBlobUnknown(repository, [layer.digest]) from None
    if blob.size != layer.size:
        raise SizeMismatch(layer.digest, layer.size, blob.size)
    return await parts.blobs.content(layer.digest)


def _choose_name(
    found: Environment | None, wanted: EnvironmentInput, namespace: str, last: str
) -> tuple[str, Sequence[str]]:
    """What the environment is called, and a sentence if the file has another name."""
    repository = f"{namespace}/{last}"
    written = wanted.name
    fits = written is not None and write_repository(namespace, written) == repository
    name = found.name if found is not None else written if written is not None and fits else last
    if written is None or fits:
        return name, ()
    return name, (f"the file's name is {written}; it was pushed to {repository}, and so is that environment's",)


def _recorder(request: web.Request, repository: str, push: Push, told: Record[None] | None) -> Record[EnvironmentBuild]:
    """Stores the manifest in the transaction that records its build, if the sender may do both."""
    parts, principal = request.app[PARTS], request[PRINCIPAL]
    update = Permission.ENVIRONMENT_UPDATE
    actor, may_update = actor_of(request, principal), is_granted(request, request[KIND].needs(update, repository))

    async def record(connection: AsyncConnection, build: EnvironmentBuild) -> None:
        # the first build of an environment is the current one from the start
        if not build.is_current and not may_update:
            raise Denied(refuse_environment(principal, update, repository))
        await parts.repositories.write_manifest(connection, repository, push, [write_file_tag(build.id)])
        await append(connection, actor.did(name_build(build), repository, build=build.id, digest=push.manifest.digest))
        if told is not None:
            await told(connection, None)

    return record
