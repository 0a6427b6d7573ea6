"""The HTTP side on a real socket, with a real catalog and blob store, and builds that end when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from auth.access import Access
from auth.changing import AccessData
from auth.settings import AccessSettings
from auth.sign_in.settings import SignInSettings
from auth.sign_in.workload_settings import WorkloadSettings
from builder.artifacts.artifact import ARTIFACTS, Artifact
from builder.errors import InvalidImageName, TooManyBuilds, UnknownArtifact
from builder.image.documents import write_beginning
from builder.image.finished import FinishedImage
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.queue.protocol import CompletedBuild
from builder.search.search import PackageSearch
from builder.ticket import Ticket
from builder.work.claims import OURSELVES, Caller, Permit
from registry.access.opening import OpenedAccess, open_access
from registry.dispatch import Row
from registry.http.settings import HttpSettings
from registry.kinds.all_kinds import ALL_KINDS
from registry.kinds.kind import MakeKind
from registry.logs.request_log import JsonRequestLog
from registry.mirror.service import Mirror
from registry.notifications import open_notifications
from registry.parts import STOPPING, Check, Parts
from registry.routes import ROUTES, compose
from registry.webhooks.delivery import Timing
from registry.webhooks.settings import WebhookSettings
from storage.blobs.rows import StoredBlob
from storage.digest import Descriptor, Digest
from storage.disk.privacy import make_private
from storage.environments.log_following import LogFollowing
from storage.layout import DataDirectory
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from storage.quotas.limits import Limits
from storage.repositories.rows import Push, StoredManifest
from storage.settings import StorageSettings
from storage.store import Store, open_store
from tests.support.auth.open_access import OpenAccess
from tests.support.auth.opened import CHEAP
from tests.support.storage.stores import new_sqlite

T = TypeVar("T")

ROOT = "conda-store-dynamic"
NUMPY = f"{ROOT}/numpy"
DOCUMENT = b"version: 1\npackage: []\n"


def spec_of(repository: str) -> EnvironmentSpec:
    items = tuple(PackageItem(name) for name in repository.split("/")[1:] if name != "single")
    return EnvironmentSpec(items, ("conda-forge",), single="/single" in repository)


@dataclass
class Build(Generic[T]):
    """A submitted build that ends when the test sets `ended`; shared by any number of requests."""

    id: str
    spec: EnvironmentSpec
    ended: asyncio.Future[T]
    stale: str | None = None

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        done, _ = await asyncio.wait({self.ended}, timeout=seconds)
        if not done:
            return None
        self.ended.result()
        return CompletedBuild(self.id, made=None)

    async def fetch(self, _completed: CompletedBuild) -> T:
        return self.ended.result()

    def ticket(self, caller: Caller) -> Ticket[T]:
        if self.stale is not None:
            return Ticket(self.spec, caller, ready=self.ended.result(), stale=self.stale)
        return Ticket(self.spec, caller, build=self, fetch=self.fetch)


@dataclass
class Workshop:
    """A `registry.parts.ImagesByName`. Repositories in `stored` exist at once; all others need a build.

    It is an `ImageReferrers` too, which only notes what it is asked for.
    """

    store: Store
    warnings: tuple[str, ...] = ()
    builds: dict[str, Build[FinishedImage]] = field(default_factory=dict)
    artifacts: dict[str, Build[Artifact]] = field(default_factory=dict)
    stored: dict[str, FinishedImage] = field(default_factory=dict)
    tag_list: list[str] = field(default_factory=lambda: ["latest", "2026-01-31", "lock-0123456789ab"])
    asked: int = 0
    callers: list[Caller] = field(default_factory=list)
    attached: list[tuple[str, Digest]] = field(default_factory=list)
    refusal: TooManyBuilds | None = None
    """Raised instead of starting a build."""

    @property
    def root(self) -> str:
        return ROOT

    def owns(self, repository: str) -> bool:
        return repository.split("/")[0] == ROOT

    async def image(self, repository: str, tag: str, caller: Caller, permit: Permit) -> Ticket[FinishedImage]:
        self.asked += 1
        self.callers.append(caller)
        if self.refusal:
            raise self.refusal
        if repository == f"{ROOT}/crash":
            raise ZeroDivisionError("a defect with a secret in it")
        if tag != "latest":
            raise InvalidImageName(tag, "tags are latest, a date, or lock- and hex digits")
        if repository not in self.stored:
            begun = permit()
            if repository not in self.builds:
                begun()
        if repository not in self.builds:
            self.builds[repository] = self._build(repository)
        if repository in self.stored and not self.builds[repository].ended.done():
            self.builds[repository].ended.set_result(self.stored[repository])
        return self.builds[repository].ticket(caller)

    async def artifact(self, repository: str, tag: str, name: str, caller: Caller, permit: Permit) -> Ticket[Artifact]:
        if self.refusal:
            raise self.refusal
        if name not in ARTIFACTS:
            raise UnknownArtifact(name, list(ARTIFACTS))
        key = f"{repository}:{name}"
        if key not in self.artifacts or not self.artifacts[key].ended.done():
            begun = permit()
            if key not in self.artifacts:
                begun()
        if key not in self.artifacts:
            self.artifacts[key] = self._build(repository)
        return self.artifacts[key].ticket(caller)

    async def tags(self, repository: str) -> list[str]:
        return self.tag_list

    async def attach(self, repository: str, subject: Digest, seconds: float) -> None:
        self.attached.append((repository, subject))

    def _build(self, repository: str) -> Build[T]:
        return Build(f"build{len(self.builds)}", spec_of(repository), asyncio.get_running_loop().create_future())

    async def put(self, repository: str, *, tail: bytes = b',"rest":true}') -> FinishedImage:
        """Store an image of `repository` whose manifests end with `tail`; the next request finds it."""
        spec = spec_of(repository)
        media_types = (OCI_MANIFEST, DOCKER_MANIFEST) if spec.single else (OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)
        manifests = [StoredManifest.of(each, write_beginning(spec, each) + tail) for each in media_types]
        image = FinishedImage(
            lock_key="0" * 64,
            variants=tuple(Descriptor(each.media_type, each.digest, len(each.body)) for each in manifests),
            warnings=self.warnings,
        )
        pushes = [Push(manifest) for manifest in manifests]
        await self.store.catalog.images.put(repository, image.lock_key, {}, ROOT, pushes)
        self.stored[repository] = image
        return image

    async def finish(self, repository: str) -> FinishedImage:
        image = await self.put(repository)
        self.builds[repository].ended.set_result(image)
        return image

    async def put_blob(self, content: bytes, repository: str = ROOT) -> Digest:
        """Store a blob in `repository`."""
        blob = await self.store.blobs.put(Digest.of(content), [content])
        await self.link_blob(blob, repository)
        return blob.digest

    async def link_blob(self, blob: StoredBlob, repository: str = ROOT) -> None:
        async with self.store.database.writing() as connection:
            await self.store.repositories.link(connection, repository, blob)


@dataclass
class Site:
    """A running server and a client for it."""

    url: str
    workshop: Workshop
    client: aiohttp.ClientSession
    log: io.StringIO
    app: web.Application
    runner: web.AppRunner
    access: OpenedAccess

    @property
    def host_port(self) -> tuple[str, int]:
        url = URL(self.url)
        assert url.host
        assert url.port
        return url.host, url.port

    def request(
        self, method: str, path: str, **options: Any
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a request for `path` exactly as it is written."""
        return self.client.request(method, URL(self.url + path, encoded=True), **options)

    async def started(self, repository: str) -> Build[FinishedImage]:
        """The build of `repository`, as soon as a request has started it."""
        while repository not in self.workshop.builds:
            await asyncio.sleep(0.005)
        return self.workshop.builds[repository]

    def stop_accepting(self) -> None:
        self.app[STOPPING].set()


@contextlib.asynccontextmanager
async def serving(
    directory: Path,
    settings: HttpSettings | None = None,
    checks: dict[str, Check] | None = None,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    sign_in: AccessSettings | None = None,
    workload: WorkloadSettings | None = None,
    elsewhere: SignInSettings | None = None,
    kinds: Sequence[MakeKind] = ALL_KINDS,
    routes: Sequence[Row] = ROUTES,
    read_only: bool = False,
    database: str | None = None,
    uploads: int = 1000,
    webhooks: WebhookSettings | None = None,
    timing: Timing | None = None,
    open_mirror: Callable[[Store], contextlib.AbstractAsyncContextManager[Mirror]] | None = None,
    packages: PackageSearch | None = None,
) -> AsyncIterator[Site]:
    """A server on `directory`; `database` is the URL of another database than SQLite there."""
    settings = settings or HttpSettings()
    stored = StorageSettings(data_directory=directory, database=database, uploads_per_caller=uploads)
    workshops: list[Workshop] = []
    data = DataDirectory(directory)
    make_private(data.root)
    if database is None:
        new_sqlite(data.database)
    accesses: list[OpenedAccess] = []

    @contextlib.asynccontextmanager
    async def open_parts() -> AsyncIterator[Parts]:
        async with (
            open_store(stored, limits) as store,
            open_notifications(webhooks or WebhookSettings(), settings, store.database, timing) as notifier,
            open_mirror(store) if open_mirror else contextlib.nullcontext() as mirror,
            open_access(
                sign_in or AccessSettings(),
                settings,
                AccessData(store.database, store.changes),
                ROOT,
                workload=workload,
                sign_in=elsewhere,
                hasher=CHEAP,
            ) as opened,
            contextlib.aclosing(LogFollowing(store.environments.logs)) as logs,
        ):
            workshops.append(Workshop(store))
            accesses.append(opened)
            yield Parts(
                demand=workshops[0],
                blobs=store.blobs,
                repositories=store.repositories,
                uploads=store.uploads,
                checks={"database": store.database.ping, **(checks or {})},
                access=access or (OpenAccess() if sign_in is None else opened.access),
                authentication=opened.authentication,
                tokens=opened.tokens,
                audit=opened.audit,
                namespaces=opened.namespaces,
                bindings=opened.bindings,
                stored_environments=store.environments,
                audit_pulls=sign_in is not None and sign_in.audit_pulls,
                read_only=read_only,
                notifier=notifier,
                referrers=workshops[0],
                mirror=mirror,
                packages=packages,
                browsers=opened.browsers,
                devices=opened.devices,
                logs=logs,
            )

    log = io.StringIO()
    app = compose(settings, open_parts, JsonRequestLog(log, least=20), routes=routes, kinds=kinds)
    async with listening(app, settings) as runner, aiohttp.ClientSession(auto_decompress=False) as client:
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield Site(address, workshops[0], client, log, app, runner, accesses[0])


@contextlib.asynccontextmanager
async def listening(app: web.Application, settings: HttpSettings) -> AsyncIterator[web.AppRunner]:
    """Serve on a free port while the block runs."""
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=settings.keep_alive,
        shutdown_timeout=settings.shutdown_seconds,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner
    finally:
        # as a server does it when it is told to stop; streams would go on otherwise
        app[STOPPING].set()
        await runner.cleanup()
