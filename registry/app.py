"""The composition root: makes the application and all its parts from the settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog
from aiohttp import web

from auth.changing import AccessData
from builder.remote.logins import read_logins
from builder.service import BuilderService
from registry.access.accounts import prepare_first_sign_in
from registry.access.opening import OpenedAccess, open_access
from registry.health import storage_check
from registry.logs.request_log import request_log
from registry.mirror.service import Mirror
from registry.notifications import open_notifications
from registry.parts import Check, Parts
from registry.routes import compose
from registry.settings.model import Settings
from registry.upkeep.collection import collecting, keeping
from registry.upkeep.environments import keeping_environments, watching_files
from registry.webhooks.notifier import Notifier
from storage.background import in_background
from storage.catalog.credentials import NamespaceCredentials
from storage.disk.privacy import open_to_others
from storage.environments.log_following import LogFollowing
from storage.layout import DataDirectory
from storage.store import Store, open_store
from storage.text import redact
from storage.vault.vault import Vault

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> web.Application:
    """The application of `condery serve`; it opens its parts at the start and closes them after the last request."""
    return compose(settings.http, partial(open_parts, settings), request_log(settings.log))


@contextlib.asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open the store and a builder on it; unfinished builds are resumed. Raises VaultKeysInvalid, VaultLocked."""
    directory = settings.data_directory
    vault = Vault.open(settings.vault.vault_keys, settings.vault.vault_key_file)
    async with (
        open_store(settings.storage, settings.limits) as store,
        open_notifications(settings.webhook, settings.http, store.database) as notifier,
    ):
        _tell_privacy(directory)
        _tell_open_secrets(settings)
        _tell_lacking(settings.builder.channels)
        await prepare_first_sign_in(settings, store)
        credentials = NamespaceCredentials(store.database, store.changes, vault)
        await credentials.check()
        async with (
            open_builder(settings, store, notifier, credentials) as service,
            open_mirror(settings, store, credentials) as mirror,
            open_access(
                settings.access,
                settings.http,
                AccessData(store.database, store.changes),
                settings.builder.root,
                workload=settings.workload,
                sign_in=settings.sign_in,
                vault=vault,
            ) as opened,
            in_background(store.environments.environments.names.follow()),
            keeping_environments(settings, store, service, notifier),
            watching_files(settings, store, service),
            collecting(settings, store),
            keeping(store.reserve),
            contextlib.aclosing(LogFollowing(store.environments.logs)) as logs,
        ):
            yield _make_parts(settings, store, service, opened, notifier, mirror, logs)


def _make_parts(
    settings: Settings,
    store: Store,
    service: BuilderService,
    opened: OpenedAccess,
    notifier: Notifier | None,
    mirror: Mirror | None,
    logs: LogFollowing,
) -> Parts:
    return Parts(
        demand=service.demand,
        environments=service.environments,
        blobs=store.blobs,
        repositories=store.repositories,
        uploads=store.uploads,
        access=opened.access,
        authentication=opened.authentication,
        tokens=opened.tokens,
        audit=opened.audit,
        namespaces=opened.namespaces,
        bindings=opened.bindings,
        stored_environments=store.environments,
        audit_pulls=settings.access.audit_pulls,
        checks=_checks(store, settings.data_directory),
        notes=_notes(service),
        find_obstacle=service.builder.admission.policies.find_obstacle,
        read_only=settings.upkeep.read_only,
        notifier=notifier,
        reserve=store.reserve,
        referrers=service.referrers,
        mirror=mirror,
        packages=service.packages,
        browsers=opened.browsers,
        devices=opened.devices,
        logs=logs,
    )


def open_builder(
    settings: Settings, store: Store, notifier: Notifier | None, credentials: NamespaceCredentials
) -> AbstractAsyncContextManager[BuilderService]:
    """The builder of a server, which resumes unfinished builds. Raises what `BuilderService.open` does."""
    return BuilderService.open(
        settings.builder,
        settings.data_directory,
        store.catalog,
        store.blobs,
        others="public" if settings.http.is_for_this_machine else "none",
        resume=True,
        announce=notifier.build_recorder if notifier else None,
        rules=settings.policy,
        changed=store.changes.mark_all,
        credentials=credentials,
        environments=store.environments,
        make_room=store.reserve.spend,
    )


def _checks(store: Store, directory: Path) -> Mapping[str, Check]:
    return {
        "database": store.database.ping,
        "storage": storage_check(directory),
        "blobs": lambda: asyncio.to_thread(store.blobs.objects.check),
    }


def _notes(service: BuilderService) -> dict[str, Callable[[], str]]:
    deny_list = service.builder.admission.policies.deny_list
    return {"deny_list": lambda: deny_list.status} if deny_list else {}


def _tell_lacking(channels: Sequence[str]) -> None:
    """Warn of directories that are not there, which may be mounted later."""
    for channel in channels:
        path = unquote(urlsplit(channel).path) if channel.startswith("file://") else channel
        if path.startswith("/") and not Path(path).is_dir():
            log.warning("a channel's directory is not there, so nothing can be built from it", channel=redact(channel))


def _tell_privacy(directory: Path) -> None:
    if mode := open_to_others(directory):
        log.warning(
            "other users of this machine may enter the data directory",
            directory=str(directory),
            mode=mode,
            fix=f"chmod -R go= {directory}",
        )


def _tell_open_secrets(settings: Settings) -> None:
    files = {
        "vault_key_file": settings.vault.vault_key_file,
        "webhook_secret_file": settings.webhook.webhook_secret_file,
        "oidc_client_secret_file": settings.sign_in.oidc_client_secret_file,
        "admin_password_file": settings.access.admin_password_file,
        "s3_credentials": settings.storage.s3_credentials,
        "credentials": settings.builder.credentials,
        "tls_key": settings.http.tls_key,
    }
    for setting, path in files.items():
        # one that is needed and missing is told by its reader
        with contextlib.suppress(OSError):
            if path is not None and (mode := open_to_others(path)):
                log.warning(
                    "other users of this machine may read or write a file of secrets",
                    setting=setting,
                    file=str(path),
                    mode=mode,
                    fix=f"chmod go= {path}",
                )


@contextlib.asynccontextmanager
async def open_mirror(settings: Settings, store: Store, own: NamespaceCredentials) -> AsyncIterator[Mirror | None]:
    """Open the mirror of other registries; None if none is mirrored. Raises LoginsFileUnusable."""
    if not settings.mirror.mirrors:
        yield None
        return
    credentials = settings.builder.credentials
    async with Mirror.open(
        settings.mirror,
        store.blobs,
        store.repositories,
        DataDirectory(settings.data_directory).mirror,
        logins=read_logins(credentials) if credentials else {},
        insecure=settings.builder.insecure_registries,
        own=own,
    ) as mirror:
        yield mirror
