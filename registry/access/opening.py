"""Everything that decides who may do what, opened over a store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auth.access import GrantedAccess
from auth.accounts.accounts import Accounts
from auth.accounts.attempts import Attempts
from auth.accounts.bindings import HeldBindings
from auth.accounts.defaults import Defaults
from auth.accounts.loading import PrincipalLoader
from auth.accounts.namespaces import Namespaces
from auth.accounts.passwords import Passwords
from auth.audit.log import AuditLog
from auth.changing import AccessData
from auth.role import Roles
from auth.settings import AccessSettings
from auth.sign_in.device import DeviceSignIns
from auth.sign_in.errors import ClientSecretUnusable
from auth.sign_in.identities import Identities
from auth.sign_in.pending import PendingSignIns
from auth.sign_in.provider import Client, Provider
from auth.sign_in.renewal import Renewals
from auth.sign_in.sessions import BrowserSessions
from auth.sign_in.settings import SignInSettings
from auth.sign_in.workload_settings import WorkloadSettings
from auth.sign_in.workloads import Workloads
from auth.tokens.credential import Recognition
from auth.tokens.tokens import Tokens
from registry.access.authentication import Authentication
from registry.access.browser.device import DevicePages
from registry.access.browser.login import LoginPage
from registry.access.browser.pages import BrowserPages
from registry.access.browser.provider import ProviderSignIns
from registry.access.browser.sessions import SignedInBrowsers
from registry.access.challenge import Challenger, service_of
from registry.access.issuers import open_issuer_client
from registry.access.names import names_of
from registry.access.passwords import PasswordSignIns
from registry.access.per_minute import PerMinute
from registry.access.proxied import ProxyHeaders, ProxySignIns
from registry.http.settings import HttpSettings
from storage.disk.secret_file import read_first_line
from storage.vault.vault import NO_VAULT, Vault

if TYPE_CHECKING:
    from argon2 import PasswordHasher


@dataclass(frozen=True)
class OpenedAccess:
    access: GrantedAccess
    authentication: Authentication
    tokens: Tokens
    loader: PrincipalLoader
    audit: AuditLog
    namespaces: Namespaces
    bindings: HeldBindings
    browsers: BrowserPages
    devices: DeviceSignIns


@contextlib.asynccontextmanager
async def open_access(
    settings: AccessSettings,
    http: HttpSettings,
    data: AccessData,
    root: str,
    *,
    workload: WorkloadSettings | None = None,
    sign_in: SignInSettings | None = None,
    vault: Vault = NO_VAULT,
    hasher: PasswordHasher | None = None,
) -> AsyncIterator[OpenedAccess]:
    """`root` is the first part of on-demand names. Raises WorkloadRuleInvalid, TrustUnusable, VaultLocked."""
    service = service_of(settings, http)
    defaults = Defaults(settings, root, for_this_machine=http.is_for_this_machine)
    names = names_of(settings, workload or WorkloadSettings(), root)
    loader = PrincipalLoader(data, settings.own_roles, defaults)
    tokens = Tokens.open(data, settings, service, vault)
    await tokens.keys.check()
    audit = AuditLog(data.database)
    async with (
        contextlib.AsyncExitStack() as stack,
        open_workloads(workload or WorkloadSettings(), settings.own_roles) as workloads,
        audit.writing(),
    ):
        with Passwords(data, settings.password_hashes, hasher) as passwords:
            recognition = Recognition(loader, tokens.access, workloads)
            identities = Identities(data, Accounts(data, names, passwords))
            elsewhere = sign_in or SignInSettings()
            headers = ProxyHeaders.of(elsewhere)
            proxied = ProxySignIns(headers, identities, recognition, data) if headers is not None else None
            people = PasswordSignIns(passwords, Attempts(settings.login_attempts), loader, data)
            opened = await stack.enter_async_context(
                open_browsers(settings, elsewhere, http, data, recognition, identities, people, audit)
            )
            authentication = Authentication(
                data,
                recognition,
                people,
                tokens,
                Challenger(settings.realm_path, service),
                [workloads] if workloads else [],
                [*([proxied] if proxied is not None else []), opened.browsers],
                makes_accounts=proxied is not None or opened.has_provider,
            )
            try:
                yield OpenedAccess(
                    GrantedAccess(),
                    authentication,
                    tokens,
                    loader,
                    audit,
                    Namespaces(data, names),
                    HeldBindings(data, settings.own_roles),
                    opened.pages,
                    opened.devices,
                )
            finally:
                await tokens.access.close()


@dataclass(frozen=True)
class OpenedBrowsers:
    browsers: SignedInBrowsers
    pages: BrowserPages
    devices: DeviceSignIns
    has_provider: bool


@contextlib.asynccontextmanager
async def open_browsers(
    settings: AccessSettings,
    elsewhere: SignInSettings,
    http: HttpSettings,
    data: AccessData,
    recognition: Recognition,
    identities: Identities,
    people: PasswordSignIns,
    audit: AuditLog,
) -> AsyncIterator[OpenedBrowsers]:
    """Signing in by browsers. Raises ClientSecretUnusable, TrustUnusable."""
    sessions, devices = BrowserSessions(data, settings.session_hours), DeviceSignIns(data)
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(open_provider(elsewhere, http))
        renewals = None
        if provider is not None:
            renewals = Renewals(provider, sessions, identities, audit, elsewhere.oidc_refresh_minutes)
            stack.push_async_callback(renewals.close)
        browsers = SignedInBrowsers(sessions, recognition, data, renewals)
        pages = BrowserPages.of(
            LoginPage(people if settings.browser_passwords else None, browsers, has_provider=provider is not None),
            DevicePages(devices),
            ProviderSignIns(provider, PendingSignIns(data, "oidc"), browsers, identities) if provider else None,
            PerMinute(settings.sign_in_requests),
        )
        yield OpenedBrowsers(browsers, pages, devices, provider is not None)


@contextlib.asynccontextmanager
async def open_workloads(settings: WorkloadSettings, roles: Roles) -> AsyncIterator[Workloads]:
    """Those of the settings' issuers. Raises WorkloadRuleInvalid, TrustUnusable."""
    hosts, authorities = settings.workload_internal_hosts, settings.workload_ca_file
    async with open_issuer_client(settings.workload_issuers, hosts, authorities) as client:
        workloads = Workloads(settings, roles, client.fetch)
        try:
            yield workloads
        finally:
            await workloads.close()


@contextlib.asynccontextmanager
async def open_provider(settings: SignInSettings, http: HttpSettings) -> AsyncIterator[Provider | None]:
    """None if the settings name none. Raises ClientSecretUnusable, TrustUnusable."""
    issuer, client_id, url = settings.oidc_issuer, settings.oidc_client_id, http.public_url
    if issuer is None or client_id is None or url is None:
        yield None
        return
    client = Client(
        client_id,
        read_client_secret(settings.oidc_client_secret_file),
        f"{url}/login/callback",
        settings.oidc_scopes,
        settings.oidc_name_claim,
        settings.oidc_groups_claim,
    )
    async with open_issuer_client([issuer], settings.oidc_internal_hosts, settings.oidc_ca_file) as web:
        provider = Provider(issuer, client, web)
        try:
            yield provider
        finally:
            await provider.close()


def read_client_secret(path: Path | None) -> str:
    """The first line of a file. Raises ClientSecretUnusable."""
    if path is None:
        return ""
    try:
        text = read_first_line(path).strip()
    except ValueError as error:
        raise ClientSecretUnusable(str(path), str(error)) from None
    if not text:
        raise ClientSecretUnusable(str(path), "it is empty")
    return text
