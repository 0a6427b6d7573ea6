"""Writes an environment with its history, its locks and, if wanted, its images as one OCI layout (docs/export.md).

Everything is written as it is read, one lock, one log and one chunk of a blob at a time, so memory grows only with the
list of builds. An output appears whole or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from builder.base.layout_files import (
    INDEX_NAME,
    LAYOUT_MARKER,
    MARKER_NAME,
    Add,
    locate_blob,
    verify,
    writing_directory,
    writing_tar,
)
from builder.build import Builder
from builder.canonical import canonical_json
from builder.environments.transfer.document import read_document
from builder.environments.transfer.images import describe_image
from builder.environments.transfer.logs import read_log
from builder.environments.transfer.vocabulary import (
    ENVIRONMENT_TYPE,
    LARGEST_MANIFEST,
    LOCK_TYPE,
    LOG_TYPE,
    LONGEST_TEXT,
    MOST_BUILDS,
    SPECIFICATION_TYPE,
    ExportedBuild,
    ExportedEnvironment,
    ExportedImage,
    ExportedSpecification,
)
from builder.errors import FormatUnsuitable, InputInvalid, PublishFailed
from builder.locks.formats import CONDA_LOCK, write_conda_lock
from builder.locks.lock import Lock
from storage.digest import Descriptor, Digest
from storage.environments.lists.scope import Scope
from storage.environments.parts import EnvironmentStore
from storage.environments.vocabulary import BuildFilter, BuildStatus, Environment, EnvironmentBuild
from storage.errors import BuildStateWrong, JsonInvalid
from storage.oci import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from storage.repositories.manifest_document import read_manifest

Which = Literal["all", "current"] | int
"""Which builds: all that have ended, the current one, or one by its id."""

_EMPTY = b"{}"
_TITLE = "org.opencontainers.image.title"
_REF_NAME = "org.opencontainers.image.ref.name"
_CONDA_LOCK_TYPE = "application/vnd.conda.lock.v1+yaml"


@dataclass(frozen=True)
class Exported:
    """What an export has."""

    builds: int
    digest: Digest
    """Of the artifact's manifest, and thereby of everything in it."""
    bytes: int


@dataclass(frozen=True)
class EnvironmentExport:
    """Exports environments of a store."""

    builder: Builder
    store: EnvironmentStore

    async def write(
        self,
        namespace: str,
        name: str,
        target: Path,
        *,
        which: Which = "all",
        with_bytes: bool = True,
        umask: int | None = None,
    ) -> Exported:
        """Write a new directory, or a tar if the name of `target` ends with .tar.

        Raises EnvironmentUnknown, EnvironmentBuildUnknown, BuildStateWrong for a build that has not ended,
        PublishFailed, StorageFull.
        """
        environment = await self.store.environments.find(namespace, name)
        builds = await self._choose(environment, which)
        writing = writing_tar if target.name.lower().endswith(".tar") else writing_directory
        async with _aside(writing(target, umask)) as add:
            return await _Writer(self.builder, self.store, str(target), add).write(environment, builds, with_bytes)

    async def _choose(self, environment: Environment, which: Which) -> list[EnvironmentBuild]:
        ids = await self.store.builds.list_ids(Scope(), BuildFilter(environment=environment.id))
        if which != "all":
            wanted = environment.current_build if which == "current" else which
            ids = [each for each in ids if each == wanted]
        if len(ids) > MOST_BUILDS:
            raise _refuse_number(environment)
        builds = await self.store.builds.find_many(ids)
        if which != "all":
            for build in builds:
                if not build.is_finished:
                    raise BuildStateWrong(
                        build.id, f"it is {build.status}, and only builds that have ended are exported"
                    )
        ended = [build for build in builds if build.is_finished]
        if not ended:
            what = "no build that has ended" if which == "all" else f"no build {which}"
            raise PublishFailed(f"{environment.namespace}/{environment.name}", f"it has {what}; nothing is exported")
        return ended


def _refuse_number(environment: Environment) -> PublishFailed:
    return PublishFailed(
        f"{environment.namespace}/{environment.name}",
        "its builds are more than one archive can describe; export some of them: --builds current, or a number",
    )


@dataclass
class _Writer:
    """Writes one layout."""

    builder: Builder
    store: EnvironmentStore
    target: str
    add: Add
    layers: list[Descriptor] = field(default_factory=list)
    """What belongs to the artifact of the environment."""
    images: dict[Digest, Descriptor] = field(default_factory=dict)
    """Manifests of images whose bytes are there."""
    written: dict[Digest, int] = field(default_factory=dict)

    async def write(self, environment: Environment, builds: Sequence[EnvironmentBuild], with_bytes: bool) -> Exported:
        await self._add(MARKER_NAME, LAYOUT_MARKER)
        specifications = await self._write_specifications(builds)
        locks = await self._write_locks(builds)
        known: dict[str, ExportedImage | None] = {}
        places = {each: place for place, each in enumerate(specifications)}
        exported = []
        for build in builds:
            if build.image_key is not None and build.image_key not in known:
                known[build.image_key] = await self._write_image(build, with_bytes)
            image = known[build.image_key] if build.image_key and build.status == BuildStatus.COMPLETED else None
            ended = _describe(build, places[build.specification], image, locks)
            exported.append(replace(ended, log=await self._write_log(build)))
        document = ExportedEnvironment(
            namespace=environment.namespace,
            name=environment.name,
            description=_clean(environment.description) or "",
            settings=await self._find_settings(environment),
            created=environment.created,
            created_by=environment.created_by,
            current_build=environment.current_build,
            specifications=tuple(specifications.values()),
            builds=tuple(exported),
            locks=locks,
            exported=time.time(),
            exporter=metadata.version("condery"),
        )
        content = canonical_json(document.to_json())
        try:
            # what cannot be read again is no archive
            await asyncio.to_thread(read_document, content)
        except JsonInvalid:
            raise _refuse_number(environment) from None
        except InputInvalid as error:
            raise PublishFailed(self.target, f"what is stored of it cannot be exported: {error}") from None
        described = await self._add_blob(ENVIRONMENT_TYPE, content, "environment.json")
        artifact = await self._write_artifact(environment, described)
        return Exported(len(builds), artifact.digest, sum(self.written.values()))

    async def _find_settings(self, environment: Environment) -> Mapping[str, Any]:
        """Those of the environment itself."""
        layers = await self.store.settings.list_layers(environment.namespace, environment.name)
        return next((each.document for each in layers if each.environment == environment.name), {})

    async def _write_specifications(self, builds: Iterable[EnvironmentBuild]) -> dict[int, Descriptor]:
        """The specifications by their ids, in the order in which builds name them first."""
        found = {}
        for each in dict.fromkeys(build.specification for build in builds):
            specification = await self.store.builds.find_specification(each)
            exported = ExportedSpecification(specification.name, specification.document, specification.request)
            content = await asyncio.to_thread(_write_json, exported)
            found[each] = await self._add_layer(
                SPECIFICATION_TYPE, content, f"specification-{specification.sha256}.json"
            )
        return found

    async def _write_locks(self, builds: Iterable[EnvironmentBuild]) -> dict[str, Descriptor]:
        found = {}
        for key in dict.fromkeys(build.lock_key for build in builds):
            document = await self.builder.catalog.locks.find(key) if key is not None else None
            if key is None or document is None:
                continue
            lock = Lock.from_json(document)
            content = await asyncio.to_thread(_write_json, lock)
            found[key] = await self._add_layer(LOCK_TYPE, content, f"lock-{key}.json")
            # a package without md5 has no place in that format
            with contextlib.suppress(FormatUnsuitable):
                text = await asyncio.to_thread(write_conda_lock, lock)
                await self._add_layer(_CONDA_LOCK_TYPE, text, f"lock-{key}/{CONDA_LOCK.file_name}")
        return found

    async def _write_log(self, build: EnvironmentBuild) -> Descriptor | None:
        content = await read_log(self.store.logs, build)
        return await self._add_layer(LOG_TYPE, content, f"log-{build.id}.jsonl") if content else None

    async def _write_image(self, build: EnvironmentBuild, with_bytes: bool) -> ExportedImage | None:
        assert build.image_key is not None
        image = await describe_image(self.builder, self.store.builds, build.image_key, with_bytes=with_bytes)
        if image is None or not with_bytes:
            return image
        for stored in await self.store.builds.list_manifests(build.image_key):
            document = read_manifest(stored.media_type, stored.body)
            for blob in document.blobs:
                await self._copy_blob(blob)
            await self._add_content(stored.digest, stored.body)
            name = {_REF_NAME: str(build.id)} if stored.digest == image.top.digest else {}
            described = Descriptor(stored.media_type, stored.digest, len(stored.body), annotations=name)
            self.images.setdefault(stored.digest, described)
        return image

    async def _copy_blob(self, descriptor: Descriptor) -> None:
        if descriptor.digest in self.written:
            return
        blobs = self.builder.blobs
        stored = await blobs.find(descriptor.digest)
        content = verify(self.target, descriptor, blobs.read(stored))
        await asyncio.to_thread(self.add, locate_blob(descriptor.digest), descriptor.size, content)
        self.written[descriptor.digest] = descriptor.size

    async def _write_artifact(self, environment: Environment, described: Descriptor) -> Descriptor:
        """Write the manifest of what belongs to the environment, and the layout's index."""
        config = await self._add_blob(OCI_EMPTY, _EMPTY, "")
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ENVIRONMENT_TYPE,
            "config": Descriptor(config.media_type, config.digest, config.size).to_json(),
            "layers": [each.to_json() for each in [described, *self.layers]],
            "annotations": {_TITLE: f"{environment.namespace}/{environment.name}"},
        }
        body = canonical_json(manifest)
        if len(body) > LARGEST_MANIFEST:
            raise _refuse_number(environment)
        await self._add_content(Digest.of(body), body)
        artifact = Descriptor(
            OCI_MANIFEST,
            Digest.of(body),
            len(body),
            annotations={_REF_NAME: "environment"},
            artifact_type=ENVIRONMENT_TYPE,
        )
        entries = [artifact, *self.images.values()]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [each.to_json() for each in entries]}
        await self._add(INDEX_NAME, json.dumps(index).encode())
        return artifact

    async def _add_layer(self, media_type: str, content: bytes, title: str) -> Descriptor:
        described = await self._add_blob(media_type, content, title)
        self.layers.append(described)
        return Descriptor(media_type, described.digest, described.size)

    async def _add_blob(self, media_type: str, content: bytes, title: str) -> Descriptor:
        digest = Digest.of(content)
        await self._add_content(digest, content)
        return Descriptor(media_type, digest, len(content), annotations={_TITLE: title} if title else {})

    async def _add_content(self, digest: Digest, content: bytes) -> None:
        if digest not in self.written:
            await self._add(locate_blob(digest), content)
            self.written[digest] = len(content)

    async def _add(self, name: str, content: bytes) -> None:
        await asyncio.to_thread(self.add, name, len(content), [content])


def _describe(
    build: EnvironmentBuild, specification: int, image: ExportedImage | None, locks: Collection[str]
) -> ExportedBuild:
    return ExportedBuild(
        id=build.id,
        specification=specification,
        status=build.status,
        status_info=_clean(build.status_info),
        cause=build.cause,
        lock=build.lock_key if build.lock_key in locks else None,
        same_as=build.same_as,
        size=build.size,
        scheduled=build.scheduled,
        started=build.started,
        ended=build.ended,
        created_by=build.created_by,
        image=image,
        log=None,
    )


def _write_json(document: ExportedSpecification | Lock) -> bytes:
    return canonical_json(document.to_json())


def _clean(text: str | None) -> str | None:
    """Text as an import takes it."""
    if text is None:
        return None
    return "".join(each if each.isprintable() or each in "\n\r\t" else "\ufffd" for each in text[:LONGEST_TEXT])


@contextlib.asynccontextmanager
async def _aside(context: contextlib.AbstractContextManager[Add]) -> AsyncIterator[Add]:
    """Enter and leave a context that waits for the disk, in threads."""
    add = await asyncio.to_thread(context.__enter__)
    try:
        yield add
    except BaseException:
        if not await asyncio.to_thread(context.__exit__, *sys.exc_info()):
            raise
    else:
        await asyncio.to_thread(context.__exit__, None, None, None)
