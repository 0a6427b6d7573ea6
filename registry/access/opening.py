"""Everything that decides who may do what, opened over a store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from auth.access import GrantedAccess
from auth.accounts.accounts import Accounts
from auth.accounts.attempts import Attempts
from auth.accounts.defaults import Defaults
from auth.accounts.loading import PrincipalLoader
from auth.accounts.names import Names
from auth.accounts.passwords import Passwords
from auth.audit.log import AuditLog
from auth.changing import AccessData
from auth.role import Roles
from auth.settings import AccessSettings
from auth.sign_in.identities import Identities
from auth.sign_in.settings import SignInSettings, WorkloadSettings
from auth.sign_in.workloads import Workloads
from auth.tokens.credential import Recognition
from auth.tokens.tokens import Tokens
from registry.access.authentication import Authentication
from registry.access.challenge import Challenger, service_of
from registry.access.passwords import PasswordSignIns
from registry.access.proxied import ProxyHeaders, ProxySignIns
from registry.http.settings import HttpSettings
from registry.issuers import open_fetch


@dataclass(frozen=True)
class OpenedAccess:
    access: GrantedAccess
    authentication: Authentication
    tokens: Tokens
    loader: PrincipalLoader
    audit: AuditLog


@contextlib.asynccontextmanager
async def open_access(
    settings: AccessSettings,
    http: HttpSettings,
    data: AccessData,
    root: str,
    *,
    workload: WorkloadSettings | None = None,
    sign_in: SignInSettings | None = None,
) -> AsyncIterator[OpenedAccess]:
    """`root` is the first part of on-demand names. Raises WorkloadRuleInvalid, TrustUnusable."""
    service = service_of(settings, http)
    defaults = Defaults(settings, root, for_this_machine=http.is_for_this_machine)
    loader = PrincipalLoader(data, settings.own_roles, defaults)
    tokens = Tokens.open(data, settings, service)
    audit = AuditLog(data.database)
    async with open_workloads(workload or WorkloadSettings(), settings.own_roles) as workloads, audit.writing():
        with Passwords(data, settings.password_hashes) as passwords:
            recognition = Recognition(loader, tokens.access, workloads)
            headers = ProxyHeaders.of(sign_in or SignInSettings())
            identities = Identities(data, Accounts(data, Names(root), passwords))
            authentication = Authentication(
                data,
                recognition,
                PasswordSignIns(passwords, Attempts(settings.login_attempts), loader),
                tokens,
                Challenger(settings.realm_path, service),
                [workloads] if workloads else [],
                ProxySignIns(headers, identities, recognition, data) if headers is not None else None,
            )
            try:
                yield OpenedAccess(GrantedAccess(), authentication, tokens, loader, audit)
            finally:
                await tokens.access.close()


@contextlib.asynccontextmanager
async def open_workloads(settings: WorkloadSettings, roles: Roles) -> AsyncIterator[Workloads]:
    """Those of the settings' issuers. Raises WorkloadRuleInvalid, TrustUnusable."""
    async with open_fetch(settings) as fetch:
        workloads = Workloads(settings, roles, fetch)
        try:
            yield workloads
        finally:
            await workloads.close()
