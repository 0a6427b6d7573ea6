"""The parts behind the HTTP side: the builder's demand, repositories, blobs, uploads, and the checks of /readyz."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aiohttp import web

from auth.access import Access
from auth.accounts.bindings import HeldBindings
from auth.accounts.namespaces import Namespaces
from auth.audit.log import AuditLog
from auth.principal import Principal
from auth.sign_in.device import DeviceSignIns
from auth.tokens.credential import Credential
from auth.tokens.tokens import Tokens
from builder.artifacts.artifact import Artifact
from builder.environments.life import NamedEnvironments
from builder.image.finished import FinishedImage
from builder.search.search import PackageSearch
from builder.ticket import Ticket
from builder.work.claims import Caller, Permit
from registry.errors import Unauthorized
from registry.http.budget import UploadBudget
from registry.http.memory import Memory
from registry.http.settings import HttpSettings
from registry.http.streams import Streams
from registry.mirror.service import Mirror
from registry.peers.connections import Connections
from registry.peers.cors import Cors
from registry.peers.forwarded import Proxies
from registry.peers.networks import client_of
from registry.webhooks.notifier import Notifier
from storage.blobs.store import BlobStore
from storage.digest import Digest
from storage.disk.reserve import Reserve
from storage.environments.log_following import LogFollowing
from storage.environments.parts import EnvironmentStore
from storage.events.changes import Changes
from storage.repositories.pushed import Repositories
from storage.repositories.uploads import Uploads


class ImagesByName(Protocol):
    """Maps names and tags to images and files, like `builder.demand.Demand`.

    Raises BuilderError at once for an invalid name.
    """

    @property
    def root(self) -> str:
        """The repository in which all on-demand images are stored."""

    def owns(self, repository: str) -> bool: ...

    async def image(self, repository: str, tag: str, caller: Caller, permit: Permit) -> Ticket[FinishedImage]: ...

    async def artifact(
        self, repository: str, tag: str, name: str, caller: Caller, permit: Permit
    ) -> Ticket[Artifact]: ...

    async def tags(self, repository: str) -> Sequence[str]: ...


class ImageReferrers(Protocol):
    """Makes what refers to images, like `builder.artifacts.referrers.Referrers`."""

    async def attach(self, repository: str, subject: Digest, seconds: float) -> None:
        """Attach its files to the manifest of an image, for `seconds` at most. Anything else is left alone."""


class Authentication(Protocol):
    """Who sends a request, as `registry.access.authentication.Authentication` finds it."""

    def recall(self, request: web.Request) -> Principal | None:
        """Who it is, if that is known without waiting for anything."""

    async def identify(self, request: web.Request) -> Principal:
        """Who it is. Raises Unauthorized for credentials that do not hold."""

    def challenge(self, request: web.Request, scope: str = "", error: str = "", message: str = "") -> Unauthorized:
        """The error that says how to sign in for `scope`, and what `error` (RFC 6750) there was with credentials."""

    def check_wish(self, request: web.Request, principal: Principal) -> None:
        """Raises Denied for what a page of another site may have asked for in the name of `principal`."""

    async def identify_login(self, request: web.Request, name: str, password: str) -> Principal:
        """Whose name and password these are. Raises Unauthorized."""

    async def identify_refresh(self, request: web.Request, text: str, service: str) -> Principal:
        """Whose refresh token for `service` this is. Raises Unauthorized."""

    async def recognise(self, credential: Credential) -> Principal:
        """Who has proved it, as they are now. Raises CredentialsInvalid for what does not hold any more."""

    async def has_sign_ins(self) -> bool:
        """Whether there is anybody who could sign in."""


BrowserPage = Literal[
    "show login", "log in", "log out", "begin at provider", "finish at provider", "begin device", "show device",
    "answer device",
]  # fmt: skip


class BrowserPages(Protocol):
    """The pages with which people sign in, as `registry.access.browser.pages.BrowserPages` makes them."""

    async def answer(self, page: BrowserPage, request: web.Request) -> web.StreamResponse:
        """Raises RouteUnknown for a page that this server does not have, TooManyRequests, and what the page does."""


Check = Callable[[], Awaitable[None]]
"""Raises an error if the thing that it is named after does not work."""


@dataclass(frozen=True)
class Parts:
    """The running parts of one server process."""

    demand: ImagesByName
    blobs: BlobStore
    repositories: Repositories
    uploads: Uploads
    access: Access
    authentication: Authentication
    tokens: Tokens
    audit: AuditLog
    namespaces: Namespaces
    bindings: HeldBindings
    stored_environments: EnvironmentStore
    checks: Mapping[str, Check] = field(default_factory=dict)
    notes: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    """What /readyz says in a few words besides, which nobody has to act on at once."""
    find_obstacle: Callable[[], str | None] = lambda: None
    """Why nothing can be built now, as a sentence."""
    audit_pulls: bool = False
    """Whether pulls of manifests go to the audit log, too."""
    read_only: bool = False
    notifier: Notifier | None = None
    """None without webhooks."""
    reserve: Reserve | None = None
    """Room for deletions on a full disk; None if nothing is stored on one."""
    referrers: ImageReferrers | None = None
    """None if images have no files that refer to them."""
    mirror: Mirror | None = None
    """None if no other registry is mirrored."""
    packages: PackageSearch | None = None
    """None if no channel can be searched."""
    browsers: BrowserPages | None = None
    environments: NamedEnvironments | None = None
    """None where nothing can be built, as in a measurement."""
    devices: DeviceSignIns | None = None
    """Programs that sign in by somebody's browser."""
    logs: LogFollowing | None = None
    """The logs of environments' builds."""

    @property
    def changes(self) -> Changes:
        return self.repositories.changes


SETTINGS = web.AppKey("settings", HttpSettings)
PARTS = web.AppKey("parts", Parts)
MEMORY = web.AppKey("memory", Memory)
PROXIES = web.AppKey("proxies", Proxies)
CORS = web.AppKey("cors", Cors)
CONNECTIONS = web.AppKey("connections", Connections)
STREAMS = web.AppKey("streams", Streams)
UPLOAD_BUDGET = web.AppKey("upload_budget", UploadBudget)
STOPPING = web.AppKey("stopping", asyncio.Event)


UNKNOWN_URL = "http://HOST:PORT"
"""Shown if neither the request nor the settings say at which URL we are reached."""


def url_of(request: web.Request) -> str:
    """The URL at which the sender reached us, to be shown to them."""
    return request.app[PROXIES].base_url(request) or UNKNOWN_URL


def host_of(request: web.Request) -> str:
    """What references of images begin with: the same without its scheme."""
    return url_of(request).partition("://")[2]


def room_for(request: web.Request, size: int) -> AbstractAsyncContextManager[None]:
    """Hold memory for `size` bytes of the request's body while the block runs; entering it raises StorageBusy."""
    return request.app[UPLOAD_BUDGET].take(client_of(request.app[PROXIES].client(request)), size)
