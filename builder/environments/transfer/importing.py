"""Makes an environment of ours of an exported one, of which nothing is believed that is not hashed or checked.

Locks and blobs are stored first; then one transaction makes the environment with all its builds. Whatever ends the
import before leaves only garbage, which the garbage collection deletes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from sys import intern
from typing import Any, Self, TypeVar

from builder.build import Builder
from builder.canonical import make_key
from builder.channels.policy import ChannelPolicy
from builder.environments.extending import check_extends
from builder.environments.inputs.environment_file import check_name
from builder.environments.inputs.input import EnvironmentInput, InputSettings
from builder.environments.life import NamedEnvironments
from builder.environments.repository import write_repository
from builder.environments.request import BuildRequest
from builder.environments.transfer.document import read_document, read_specification
from builder.environments.transfer.exporting import Which
from builder.environments.transfer.image_tree import describe_finished, list_blobs, read_pushes
from builder.environments.transfer.layout import Layout
from builder.environments.transfer.lock_document import read_lock
from builder.environments.transfer.logs import clean_log
from builder.environments.transfer.origin import Origin
from builder.environments.transfer.settings import choose_settings, log_note
from builder.environments.transfer.vocabulary import (
    ENVIRONMENT_TYPE,
    LARGEST_DOCUMENT,
    ExportedBuild,
    ExportedEnvironment,
)
from builder.environments.wanted import Wanted
from builder.environments.work import describe_made
from builder.errors import InputInvalid
from builder.locks.lock import Lock
from storage.catalog.locks import write_lock_tag
from storage.digest import Descriptor, Digest
from storage.environments.parts import EnvironmentStore
from storage.environments.transfer.importing import ImportedBuild, ImportedEnvironment, ImportedImage
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild, NewSpecification
from storage.errors import BlobUnknown, ManifestBlobUnknown, StorageUnavailable, quote
from storage.events.outbox import Record
from storage.oci import OCI_MANIFEST, is_repository
from storage.repositories.manifest_document import read_manifest
from storage.repositories.rows import Push

T = TypeVar("T")

LARGEST_SPECIFICATIONS = 128 << 20
"""Bytes of all specifications together, which are in memory at once."""
ATTEMPTS = 3
"""How often blobs are stored again that are deleted before they are named."""


@dataclass(frozen=True)
class Imported:
    """A build as it was elsewhere, and as it is here."""

    origin: Origin
    build: EnvironmentBuild
    was_complete: bool

    @property
    def is_complete(self) -> bool:
        return self.build.status == BuildStatus.COMPLETED


Permit = Callable[[str, str], Awaitable[None]]
"""Raises what refuses an environment in a namespace, whose images are in a repository: a name, or a right."""


RecordImport = Callable[[Sequence[str]], Record[EnvironmentBuild]]
"""What to record with an import, of which these settings are set."""


@dataclass(frozen=True)
class _StoredLock:
    key: str
    size: int
    packages: tuple[str, ...]


@dataclass(frozen=True)
class EnvironmentImport:
    """Imports environments into a store."""

    builder: Builder
    store: EnvironmentStore
    channels: ChannelPolicy
    wanted: Wanted

    @classmethod
    def of(cls, named: NamedEnvironments, channels: ChannelPolicy | None = None) -> Self:
        """`channels` are those that an archive may name; by default those that everybody may."""
        return cls(named.builder, named.store, channels or named.channels, named.wanted)

    async def read(
        self,
        path: Path,
        *,
        by: str,
        namespace: str | None = None,
        name: str | None = None,
        which: Which = "all",
        rebuild: bool = False,
        may_set: bool = True,
        may_extend: bool = False,
        permit: Permit | None = None,
        record: RecordImport | None = None,
        tell: Callable[[str], None] = log_note,
    ) -> list[Imported]:
        """Import a directory or a tar as a new environment, by default of the namespace and the name that it had.

        Images whose bytes are there are taken over, others are left to the queue, which makes them of their locks;
        with `rebuild` it makes all of them. `permit` is asked before anything is stored. Its settings are set if
        whoever imports it `may_set` them; `tell` gets a line about those that are not. A specification that extends an
        environment of another namespace is refused unless it `may_extend` those.

        Raises InputInvalid, EnvironmentTaken, ChannelNotAllowed, PackageRefused, PolicyRefusal, PolicyUnavailable,
        TooManyBuilds, QuotaExceeded, JsonInvalid, ManifestInvalid, StorageFull, and what `permit` raises.
        """
        layout = await asyncio.to_thread(Layout.of, path)
        exported = await asyncio.to_thread(_read_environment, layout)
        namespace, name = namespace or exported.namespace, check_name(name or exported.name)
        repository = write_repository(namespace, name)
        if not is_repository(repository) or "/" in namespace or len(repository) > 255:
            raise InputInvalid("environment.name", f"{quote(f'{namespace}/{name}')} gives no name of an image")
        if permit is not None:
            await permit(namespace, repository)
        await self.store.imports.check(namespace, name, repository)
        builds = _choose(exported, which)
        if rebuild:
            builds = [_without_bytes(each) for each in builds]
        found = await self.wanted.settings.find(namespace, name)
        await self.wanted.check_room(found, namespace, name)
        # whoever wrote the archive chose its channels
        reader = replace(self.wanted.settings, channels=self.channels)
        settings = choose_settings(reader, exported.settings, may_set=may_set, tell=tell)
        recorded = record(sorted(settings)) if record is not None else None
        if any(_is_remade(each) for each in builds):
            recorded = self.wanted.record_within(found, namespace, name, recorded)
        made = _Import(self, layout, exported, namespace, name, repository, settings, may_extend)
        return await made.run(builds, by, recorded)


@dataclass
class _Import:
    """One import under way."""

    parts: EnvironmentImport
    layout: Layout
    exported: ExportedEnvironment
    namespace: str
    name: str
    repository: str
    settings: Mapping[str, Any]
    may_extend: bool
    locks: dict[str, _StoredLock] = field(default_factory=dict)
    """By the keys that they had elsewhere."""
    specifications: dict[int, tuple[str, EnvironmentInput, BuildRequest]] = field(default_factory=dict)

    async def run(
        self, builds: Sequence[ExportedBuild], by: str, record: Record[EnvironmentBuild] | None
    ) -> list[Imported]:
        for build in builds:
            place = f"build {build.id}"
            await _telling(place, self._read_specification(build.specification))
            if build.lock is not None and build.lock not in self.locks:
                await _telling(place, self._take_lock(build.lock))
        origins = [Origin.of(self.exported, build) for build in builds]
        places = {build.id: place for place, build in enumerate(builds)}
        wanted = ImportedEnvironment(
            self.namespace,
            self.name,
            self.repository,
            self.exported.description,
            [await self._describe(build, origin, places) for build, origin in zip(builds, origins, strict=True)],
            places.get(self.exported.current_build or 0, len(builds) - 1),
            self.settings,
        )
        blobs = await self._list_blobs(builds)
        for _ in range(ATTEMPTS):
            await self._store(blobs)
            try:
                logs = await self._store_logs(builds)
                made = await self.parts.store.imports.put(_with_logs(wanted, builds, logs), by=by, record=record)
            except (ManifestBlobUnknown, BlobUnknown) as error:
                gone = error
                continue
            complete = [build.status == BuildStatus.COMPLETED for build in builds]
            return list(map(Imported, origins, made, complete))
        raise StorageUnavailable("the environment", "its blobs are deleted before they can be used") from gone

    async def _read_specification(self, place: int) -> None:
        """Read what was written down as if it were sent now. Nothing is taken from what another server made of it."""
        if place in self.specifications:
            return
        builder = self.parts.builder
        content = await asyncio.to_thread(self.layout.read_small, self.exported.specifications[place])
        specification = await asyncio.to_thread(read_specification, content)
        sent = specification.document.get("lockfile", specification.document)
        text = await asyncio.to_thread(_write_text, sent)
        wanted = await self.parts.wanted.read(text, builder.pool, self.namespace, self.name)
        self._check_extends(wanted.extends)
        self.parts.channels.check(wanted.spec)
        request = BuildRequest(wanted.spec, None, wanted.pip, wanted.extends)
        if wanted.lock is not None:
            spec = await builder.logins.give_owner(wanted.spec, self.namespace)
            lock = await builder.logins.own(replace(wanted.lock, spec=spec))
            self._check_packages(lock)
            await builder.catalog.locks.put(lock.key, spec.key, lock.to_json())
            request = BuildRequest(spec, lock.key, wanted.pip)
        self.specifications[place] = specification.name, replace(wanted, lock=None), request

    def _check_extends(self, extends: str | None) -> None:
        """Raises InputInvalid, EnvironmentUnusable."""
        check_extends(extends, self.repository)
        # who wrote the archive would see what is in it, once it is built again
        if extends is not None and extends.partition("/")[0] != self.namespace and not self.may_extend:
            raise InputInvalid(
                "extends",
                f"{quote(extends)} is of another namespace than {self.namespace}, and whoever reads the new environment"
                " would read its packages; allow that (--extends), or import it into that namespace",
            )

    async def _take_lock(self, key: str) -> None:
        """Store a lock. If its packages need credentials of the namespace, they get an owner, and so another key."""
        builder = self.parts.builder
        settings = InputSettings.of(builder.settings)
        content = await asyncio.to_thread(self.layout.read_small, self.exported.locks[key])
        lock = await asyncio.to_thread(read_lock, content, settings)
        if await asyncio.to_thread(lambda: lock.key) != key:
            raise InputInvalid("", f"it is not {write_lock_tag(key)}, as the archive says")
        self.parts.channels.check(lock.spec)
        self._check_packages(lock)
        spec = await builder.logins.give_owner(replace(lock.spec, owner=""), self.namespace)
        lock = await builder.logins.own(_without_owner(replace(lock, spec=spec)))
        await builder.admission.of(self.namespace, self.name).check_lock(lock)
        await builder.catalog.locks.put(lock.key, spec.key, lock.to_json())
        made = describe_made(lock, "")
        self.locks[key] = _StoredLock(lock.key, made.size, tuple(map(intern, made.packages)))

    def _check_packages(self, lock: Lock) -> None:
        for packages in lock.packages.values():
            for package in packages:
                self.parts.channels.check_package(package)

    async def _describe(self, build: ExportedBuild, origin: Origin, places: Mapping[int, int]) -> ImportedBuild:
        name, wanted, request = self.specifications[build.specification]
        lock = self.locks[build.lock] if build.lock is not None else None
        image = await self._describe_image(build, lock)
        remade = build.status == BuildStatus.COMPLETED and image is None
        info = f"imported from {origin} with its image" if image else build.status_info
        return ImportedBuild(
            NewSpecification(name, wanted.document, replace(request, origin=origin.to_json()).to_json()),
            BuildStatus.QUEUED if remade else build.status,
            None if remade else info,
            lock.key if lock else None,
            lock.packages if lock else (),
            places.get(build.same_as) if build.same_as is not None else None,
            lock.size if lock else 0,
            # it waits from now on
            time.time() if remade else build.scheduled,
            None if remade else build.started,
            None if remade else build.ended,
            image,
        )

    async def _describe_image(self, build: ExportedBuild, lock: _StoredLock | None) -> ImportedImage | None:
        exported = build.image
        if build.status != BuildStatus.COMPLETED or exported is None or not exported.has_bytes or lock is None:
            return None
        assert build.lock is not None
        document = await asyncio.to_thread(describe_finished, self.layout, exported, lock.key)

        async def load() -> Sequence[Push]:
            return await asyncio.to_thread(read_pushes, self.layout, exported)

        key = make_key("imported image", [exported.top.digest, lock.key])
        return ImportedImage(key, exported.top.digest, document, load)

    async def _list_blobs(self, builds: Sequence[ExportedBuild]) -> dict[Digest, Descriptor]:
        """All blobs that images need, which are in the archive with the sizes that their manifests say."""
        found: dict[Digest, Descriptor] = {}
        for build in builds:
            if build.image is not None and build.image.has_bytes and build.lock is not None:
                work = asyncio.to_thread(list_blobs, self.layout, build.image, build.lock)
                found |= await _telling(f"build {build.id}", work)
        await asyncio.to_thread(self.layout.check, found)
        return found

    async def _store(self, blobs: Mapping[Digest, Descriptor]) -> None:
        """Store the blobs, each as it is hashed: a blob of another digest is none."""
        for digest, descriptor in blobs.items():
            await self.parts.builder.blobs.put(digest, self.layout.read(descriptor))

    async def _store_logs(self, builds: Sequence[ExportedBuild]) -> dict[Digest, tuple[Digest, int]]:
        """Store what is left of the logs of builds that are not made again; those by the digests that they had."""
        found: dict[Digest, tuple[Digest, int]] = {}
        for build in builds:
            if build.log is None or build.log.digest in found or _is_remade(build):
                continue
            content = await _telling(f"build {build.id}", asyncio.to_thread(clean_log, self.layout, build.log))
            if content:
                digest = await asyncio.to_thread(Digest.of, content)
                await self.parts.builder.blobs.put(digest, [content])
                found[build.log.digest] = digest, len(content)
        return found


def _with_logs(
    wanted: ImportedEnvironment, builds: Sequence[ExportedBuild], logs: Mapping[Digest, tuple[Digest, int]]
) -> ImportedEnvironment:
    found = [logs.get(each.log.digest) if each.log and not _is_remade(each) else None for each in builds]
    changed = [replace(build, log=kept) for build, kept in zip(wanted.builds, found, strict=True)]
    return replace(wanted, builds=changed)


def _read_environment(layout: Layout) -> ExportedEnvironment:
    artifact = layout.find_artifact()
    manifest = read_manifest(artifact.media_type, layout.read_small(artifact), "the archive")
    found = [each for each in manifest.blobs if each.media_type == ENVIRONMENT_TYPE]
    if len(found) != 1 or artifact.media_type != OCI_MANIFEST:
        raise InputInvalid("", f"it has {len(found)} documents of an environment, and needs one")
    if found[0].size > LARGEST_DOCUMENT:
        raise InputInvalid("", f"its document has {found[0].size} bytes; at most {LARGEST_DOCUMENT} are allowed")
    exported = read_document(layout.read_small(found[0]))
    if sum(each.size for each in exported.specifications) > LARGEST_SPECIFICATIONS:
        raise InputInvalid("specifications", f"they have more than {LARGEST_SPECIFICATIONS} bytes together")
    return exported


def _choose(exported: ExportedEnvironment, which: Which) -> list[ExportedBuild]:
    wanted = exported.current_build if which == "current" else which
    builds = [build for build in exported.builds if which == "all" or build.id == wanted]
    if not builds:
        raise InputInvalid("builds", f"there is no build {which}")
    return builds


def _is_remade(build: ExportedBuild) -> bool:
    return build.status == BuildStatus.COMPLETED and (build.image is None or not build.image.has_bytes)


def _without_bytes(build: ExportedBuild) -> ExportedBuild:
    return replace(build, image=replace(build.image, has_bytes=False)) if build.image else build


def _without_owner(lock: Lock) -> Lock:
    packages = {platform: tuple(replace(each, owner="") for each in group) for platform, group in lock.packages.items()}
    return replace(lock, packages=packages)


def _write_text(document: object) -> bytes:
    """What was sent, as a file: an explicit list is one of lines, all else is JSON, and so YAML."""
    if isinstance(document, dict) and isinstance(lines := document.get("explicit"), list):
        platform = f"# platform: {document.get('platform')}"
        return "\n".join([platform, "@EXPLICIT", *map(str, lines), ""]).encode()
    return json.dumps(document).encode()


async def _telling(place: str, work: Awaitable[T]) -> T:
    """The result of work on a build, whose errors name it."""
    try:
        return await work
    except InputInvalid as error:
        raise InputInvalid(f"{place}: {error.path}" if error.path else place, error.reason) from None
