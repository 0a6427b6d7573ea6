"""Everything that decides who may do what, opened over a store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from auth.access import GrantedAccess
from auth.accounts.attempts import Attempts
from auth.accounts.defaults import Defaults
from auth.accounts.loading import PrincipalLoader
from auth.accounts.passwords import Passwords
from auth.changing import AccessData
from auth.settings import AccessSettings
from auth.tokens.credential import Recognition
from auth.tokens.tokens import Tokens
from registry.access.authentication import Authentication
from registry.access.challenge import Challenger, service_of
from registry.access.passwords import PasswordSignIns
from registry.http.settings import HttpSettings


@dataclass(frozen=True)
class OpenedAccess:
    access: GrantedAccess
    authentication: Authentication
    tokens: Tokens
    loader: PrincipalLoader


@contextlib.asynccontextmanager
async def open_access(
    settings: AccessSettings, http: HttpSettings, data: AccessData, root: str
) -> AsyncIterator[OpenedAccess]:
    """`root` is the first part of on-demand names."""
    service = service_of(settings, http)
    defaults = Defaults(settings, root, for_this_machine=http.is_for_this_machine)
    loader = PrincipalLoader(data, settings.own_roles, defaults)
    tokens = Tokens.open(data, settings, service)
    with Passwords(data, settings.password_hashes) as passwords:
        authentication = Authentication(
            data,
            Recognition(loader, tokens.access),
            PasswordSignIns(passwords, Attempts(settings.login_attempts), loader),
            tokens,
            Challenger(settings.realm_path, service),
        )
        try:
            yield OpenedAccess(GrantedAccess(), authentication, tokens, loader)
        finally:
            await tokens.access.close()
