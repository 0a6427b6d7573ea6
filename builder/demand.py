"""What clients may ask for by name: images and files, from storage if they are fresh there, else from a build."""

from __future__ import annotations

import datetime
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from builder.artifacts.artifact import ARTIFACTS, IMAGE_FILES, Artifact, make_artifact_key
from builder.channels.logins import Logins, NamespaceLogins
from builder.channels.policy import ChannelPolicy
from builder.errors import BuildFailed, InvalidImageName, TooManyBuilds, UnknownArtifact, UnknownLock
from builder.image.finished import FinishedImage
from builder.locks.aside import read_spec
from builder.locks.stored import find_lock_key
from builder.names import image_name
from builder.names.spec import EnvironmentSpec
from builder.policy.admission import Admission
from builder.policy.policy import Policy
from builder.queue.ended import EndedBuild
from builder.queue.job import Job
from builder.queue.protocol import BuildQueue, CompletedBuild
from builder.queue.settings_key import make_settings_key
from builder.settings import BuilderSettings
from builder.solve.resolution import FOREVER, answers_meanwhile, find_expiry, is_fresh
from builder.ticket import Ticket
from builder.work.claims import OURSELVES, Caller, Permit, permit_all
from storage.catalog.locks import write_lock_tag
from storage.catalog.parts import Catalog
from storage.clock import USE_SECONDS
from storage.errors import ConderyError
from storage.use_notes import UseNotes

T = TypeVar("T")

NOTE_SECONDS = USE_SECONDS / 2
"""A use that was just noted is not noted again for so long; the catalog would not write it either."""

ResultKind = Literal["image", "artifact"]

Accepts = Callable[[float], bool]
"""Whether a solve at a time (UNIX seconds) is an acceptable answer."""


class Demand:
    """Answers requests for repository names and tags under the on-demand root."""

    def __init__(
        self,
        settings: BuilderSettings,
        catalog: Catalog,
        queue: BuildQueue,
        image_key: Callable[[str, Sequence[str], str], str | None],
        resolution_key: Callable[[EnvironmentSpec, Policy, str], str | None],
        channels: ChannelPolicy,
        admission: Admission,
        logins: NamespaceLogins,
    ) -> None:
        self._settings = settings
        self._root, self._below = settings.root, f"{settings.root}/"
        self._settings_key = make_settings_key(settings)
        self._channels = channels
        self._admission = admission
        self._logins = logins
        self._catalog = catalog
        self._queue = queue
        self._image_key = image_key
        """Returns the key of a lock's image for some platforms, on the current bases; None while a base is not
        resolved."""
        self._resolution_key = resolution_key
        """Returns the key under which a spec's solution by a policy, with the key of logins, is stored; None while
        a base is not resolved."""
        self._uses: UseNotes[tuple[ResultKind, str]] = UseNotes(self._write_use, NOTE_SECONDS, "use not recorded")

    @property
    def root(self) -> str:
        """The repository in which all images made on demand are stored."""
        return self._root

    def owns(self, repository: str) -> bool:
        """Whether `repository` is under the on-demand root."""
        return repository.startswith(self._below) or repository == self._root

    async def image(
        self, repository: str, tag: str, caller: Caller = OURSELVES, permit: Permit = permit_all
    ) -> Ticket[FinishedImage]:
        """Return a ticket for the stored image, or for a build if `permit` allows it.

        Raises InvalidImageName, UnknownLock, ChannelNotAllowed, PolicyRefusal, PolicyUnavailable, TooManyBuilds,
        BuildFailed while a failure is remembered, or the error of `permit`.
        """
        return await self.image_of(await self._make_job("image", repository, tag), caller, permit)

    async def close(self) -> None:
        """Record the uses that are not recorded yet."""
        await self._uses.close()

    async def image_of(
        self, job: Job, caller: Caller = OURSELVES, permit: Permit = permit_all
    ) -> Ticket[FinishedImage]:
        return await self._make_ticket(
            "image",
            job,
            caller,
            permit,
            lambda accepts: self._find_image(job, accepts),
            lambda completed: self._get_allowed_image(job, completed),
        )

    async def artifact(
        self, repository: str, tag: str, name: str, caller: Caller = OURSELVES, permit: Permit = permit_all
    ) -> Ticket[Artifact]:
        """Return a ticket for a file. Raises UnknownArtifact, and what `image` raises."""
        if name not in ARTIFACTS:
            raise UnknownArtifact(name, ARTIFACTS)
        job = replace(await self._make_job("artifact", repository, tag), artifact=name)
        return await self._artifact_of(job, caller, permit)

    async def artifact_of_lock(
        self, lock_key: str, name: str, namespace: str, caller: Caller = OURSELVES, permit: Permit = permit_all
    ) -> Ticket[Artifact]:
        """Return a ticket for a file of a stored lock, by the rules of `namespace`.

        Raises UnknownLock, UnknownArtifact, PolicyRefusal, PolicyUnavailable, TooManyBuilds, BuildFailed.
        """
        if name not in ARTIFACTS:
            raise UnknownArtifact(name, ARTIFACTS)
        document = await self._catalog.locks.find(lock_key)
        if document is None:
            raise UnknownLock(write_lock_tag(lock_key), "it was deleted; build the environment again")
        spec = read_spec(document)
        policy = await self._admission.of(namespace, "").find_policy()
        logins = await self._logins.find(spec.owner)
        job = Job("artifact", spec, lock_key, name, policy.key, logins.key, self._settings_key, namespace=namespace)
        return await self._artifact_of(job, caller, permit)

    async def _artifact_of(self, job: Job, caller: Caller, permit: Permit) -> Ticket[Artifact]:
        return await self._make_ticket(
            "artifact",
            job,
            caller,
            permit,
            lambda accepts: self._find_artifact(job, accepts),
            lambda completed: self._get_allowed_artifact(job, completed),
        )

    async def describe_end(
        self, job: Job, build_id: str, seconds: float, end: CompletedBuild | BuildFailed
    ) -> EndedBuild:
        """Describe the end of a build of `job`."""
        kind = job.artifact or job.kind
        repository = image_name.write_repository(job.spec, self._settings)
        if isinstance(end, BuildFailed):
            return EndedBuild(build_id, kind, repository, seconds, end)
        lock = await self._find_lock(job, _always)
        image = await self._get_image(job, end) if job.kind == "image" else None
        lock_key = image.lock_key if image else lock[0] if lock else None
        return EndedBuild(
            build_id,
            kind,
            repository,
            seconds,
            tag=write_lock_tag(lock_key) if lock_key else None,
            manifest=image.variants[0] if image else None,
        )

    async def tags(self, repository: str) -> list[str]:
        """List the existing tags, sorted: `latest`, and the days and locks to which this repository was solved."""
        spec = (await read_name(repository, "latest", self._settings, self._catalog)).spec
        locks: set[str] = set()
        days: set[str] = set()
        for key in list_spec_keys(spec, self._settings.root):
            locks.update(map(write_lock_tag, await self._catalog.locks.list_of_spec(key)))
            days.update(await self._catalog.locks.list_days(key))
        newest = {"latest"} if spec.items else set[str]()
        return sorted(newest | locks | days) if locks else []

    async def _make_ticket(
        self,
        kind: ResultKind,
        job: Job,
        caller: Caller,
        permit: Permit,
        find: Callable[[Accepts], Awaitable[tuple[str, T] | None]],
        get: Callable[[CompletedBuild], Awaitable[T | None]],
    ) -> Ticket[T]:
        """Make a ticket. `find` returns the stored result and its key; `get` returns the result of a build."""
        now, spec, settings = time.time(), job.spec, self._settings
        found = await find(lambda solved: is_fresh(spec, solved, settings, now))
        if found is not None:
            self._uses.note((kind, found[0]), key=found[0])
            return Ticket(job.spec, caller, ready=found[1])
        failure = await self._queue.find_remembered_failure(job)
        old = await find(lambda solved: answers_meanwhile(spec, solved, settings, now))
        if old is not None:
            self._uses.note((kind, old[0]), key=old[0])
            return Ticket(job.spec, caller, ready=old[1], stale=await self._renew(job, caller, permit, failure))
        if failure:
            raise failure
        begun = permit()
        return Ticket(job.spec, caller, build=await self._queue.submit(job, caller, begun=begun), fetch=get)

    async def _renew(self, job: Job, caller: Caller, permit: Permit, failure: BuildFailed | None) -> str:
        """Start a new build of a stale result, although nobody waits for it. Returns why it cannot start, else ""."""
        if failure is not None:
            return str(failure)
        try:
            begun = permit()
        except ConderyError as error:
            return str(error)
        try:
            await self._queue.submit(job, caller, begun=begun)
        except TooManyBuilds as error:
            return str(error)
        return ""

    async def _write_use(self, what: tuple[ResultKind, str]) -> None:
        kind, key = what
        part = self._catalog.images if kind == "image" else self._catalog.artifacts
        await part.note_use(key)

    async def _make_job(self, kind: Any, repository: str, tag: str) -> Job:
        request = await read_name(repository, tag, self._settings, self._catalog)
        if isinstance(request.reference, image_name.LockReference):
            keys = list_spec_keys(request.spec, self._settings.root)
            key = await find_lock_key(self._catalog.locks, tag, request.reference.hex, keys)
            await self._catalog.locks.pin(key)
            logins = await self._logins.find(self._settings.root)
            return await self._job_of(kind, request.spec, logins, key)
        if not request.spec.items:
            raise InvalidImageName(
                f"{repository.rpartition('/')[2]}:{tag}",
                "this handle is of a lock, which has no newest solution; pull its tag lock-<hex>",
            )
        # the result of a lock is served whatever channels may be read; what is not made yet fails when it is fetched
        self._channels.check(request.spec)
        await self._admission.check_spec(request.spec)
        spec = await self._logins.give_owner(request.spec, self._settings.root)
        logins = await self._logins.find(spec.owner)
        return await self._job_of(kind, spec, logins)

    async def _job_of(self, kind: Any, spec: EnvironmentSpec, logins: Logins, lock_key: str | None = None) -> Job:
        policy = await self._admission.find_policy()
        return Job(kind, spec, lock_key, policy=policy.key, logins=logins.key, settings=self._settings_key)

    async def _find_lock(self, job: Job, accepts: Accepts) -> tuple[str, float] | None:
        """Return the key of the lock that `job` means, if it is solved and accepted, and until when it is fresh."""
        if job.lock_key:
            return job.lock_key, FOREVER
        key = self._resolution_key(job.spec, await self._admission.find_policy(), job.logins)
        resolution = await self._catalog.locks.find_resolution(key) if key else None
        if resolution is None or not accepts(resolution.solved):
            return None
        return resolution.lock_key, find_expiry(job.spec, resolution.solved, self._settings)

    def _find_admission(self, job: Job) -> Admission:
        return self._admission.of(job.namespace, "") if job.namespace else self._admission

    async def _find_allowed_lock(self, job: Job, accepts: Accepts) -> tuple[str, float] | None:
        """As `_find_lock`. Raises PolicyRefusal for a lock that is not to be served now."""
        found = await self._find_lock(job, accepts)
        if found:
            await self._find_admission(job).check_stored(found[0])
        return found

    async def _find_image(self, job: Job, accepts: Accepts) -> tuple[str, FinishedImage] | None:
        found = await self._find_allowed_lock(job, accepts)
        key = self._image_key(found[0], job.spec.platforms, job.spec.base) if found else None
        document = await self._catalog.images.find(key) if key else None
        if not (found and key and document):
            return None
        return key, replace(FinishedImage.from_json(document["image"]), expires=found[1])

    async def _get_image(self, job: Job, completed: CompletedBuild) -> FinishedImage | None:
        """Return the result of a build by any process: this one may not know the bases that it stands on."""
        if completed.made is None:
            found = await self._find_image(job, _always)
            return found[1] if found else None
        document = await self._catalog.images.find(completed.made)
        if document is None:
            return None
        image = FinishedImage.from_json(document["image"])
        return replace(image, expires=await self._find_lock_expiry(job, image.lock_key))

    async def _get_allowed_image(self, job: Job, completed: CompletedBuild) -> FinishedImage | None:
        """As `_get_image`. The build may have begun, or another process made it, while another policy held."""
        image = await self._get_image(job, completed)
        if image is not None:
            await self._admission.check_stored(image.lock_key)
        return image

    async def _find_lock_expiry(self, job: Job, lock_key: str) -> float:
        """Return until when `job` means this lock; 0 if it has been solved to another one since."""
        if job.lock_key:
            return FOREVER
        day = job.spec.until.isoformat() if job.spec.until else None
        resolution = await self._catalog.locks.find_newest_resolution(replace(job.spec, until=None).key, day)
        if resolution is None or resolution.lock_key != lock_key:
            return 0.0
        return find_expiry(job.spec, resolution.solved, self._settings)

    async def _get_artifact(self, job: Job, completed: CompletedBuild) -> Artifact | None:
        if completed.made is None:
            found = await self._find_artifact(job, _always)
            return found[1] if found else None
        document = await self._catalog.artifacts.find(completed.made)
        return Artifact.from_json(document) if document else None

    async def _get_allowed_artifact(self, job: Job, completed: CompletedBuild) -> Artifact | None:
        """As `_get_allowed_image`."""
        lock_key = await self._catalog.artifacts.find_lock(completed.made) if completed.made else None
        if lock_key is not None:
            await self._find_admission(job).check_stored(lock_key)
        return await self._get_artifact(job, completed)

    async def _find_artifact(self, job: Job, accepts: Accepts) -> tuple[str, Artifact] | None:
        assert job.artifact is not None
        found = await self._find_allowed_lock(job, accepts)
        if not found:
            return None
        of_image = job.artifact in IMAGE_FILES
        made = self._image_key(found[0], job.spec.platforms, job.spec.base) if of_image else found[0]
        key = make_artifact_key(made, job.artifact) if made else None
        document = await self._catalog.artifacts.find(key) if key else None
        return (key, Artifact.from_json(document)) if key and document else None


async def read_name(repository: str, tag: str, settings: BuilderSettings, catalog: Catalog) -> image_name.ImageRequest:
    """Parse `repository:tag` as of today, with the stored spec if the name is a handle. Raises InvalidImageName.

    The spec is nobody's yet, and the stored one of another namespace, or on another base, is not found.
    """
    handle = image_name.find_spec_handle(repository, settings)
    document = await catalog.locks.find_of_spec(handle) if handle else None
    stored = read_spec(document) if document else None
    if stored is not None:
        is_ours = stored.owner in ("", settings.root) and not stored.base
        stored = replace(stored, owner="") if is_ours else None
    return image_name.parse(repository, tag, settings, today=_today(), stored=stored)


def list_spec_keys(spec: EnvironmentSpec, namespace: str) -> list[str]:
    """The keys of a spec of which `namespace` gets what was made: as its own, or as anybody's."""
    return [replace(spec, owner=owner).key for owner in (namespace, "")]


def _always(_solved: float) -> bool:
    return True


def _today() -> datetime.date:
    return datetime.datetime.now(tz=datetime.UTC).date()
