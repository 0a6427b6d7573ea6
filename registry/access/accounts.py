"""Accounts over an open store: for commands, and for the first start of a server."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from auth.accounts.accounts import Accounts
from auth.accounts.bindings import HeldBindings
from auth.accounts.defaults import Defaults
from auth.accounts.first_start import ADMINISTRATOR, PRINTED_DAYS, make_first_administrator
from auth.accounts.groups import Groups
from auth.accounts.loading import PrincipalLoader
from auth.accounts.namespaces import Namespaces
from auth.accounts.passwords import Passwords
from auth.changing import AccessData
from auth.sign_in.identities import Identities
from auth.tokens.access_tokens import AccessTokens
from registry.access.names import names_of
from registry.settings.model import Settings
from storage.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class OpenedAccounts:
    accounts: Accounts
    groups: Groups
    namespaces: Namespaces
    bindings: HeldBindings
    principals: PrincipalLoader
    identities: Identities
    access_tokens: AccessTokens


@contextlib.contextmanager
def open_accounts(settings: Settings, store: Store) -> Iterator[OpenedAccounts]:
    """With the roles and defaults of `settings`."""
    access, root = settings.access, settings.builder.root
    data, roles = AccessData(store.database, store.changes), access.own_roles
    names = names_of(access, settings.workload, root)
    defaults = Defaults(access, root, for_this_machine=settings.http.is_for_this_machine)
    with Passwords(data, access.password_hashes) as passwords:
        accounts = Accounts(data, names, passwords)
        yield OpenedAccounts(
            accounts,
            Groups(data, names),
            Namespaces(data, names),
            HeldBindings(data, roles),
            PrincipalLoader(data, roles, defaults),
            Identities(data, accounts),
            AccessTokens(data, roles, access.access_token_days),
        )


async def prepare_first_sign_in(settings: Settings, store: Store) -> None:
    """Make sure that somebody can sign in to a server that others can reach: the administrator, at its first start.

    At later starts it only warns if nobody can, such as when a printed password has ended unchanged. A password that is
    made up goes to standard error once, as a line of its own between two empty ones, and never into the log. It does so
    at once: if the start fails after that, the account is there all the same. Raises PasswordFileUnusable,
    PasswordUnfit.
    """
    if settings.http.is_for_this_machine:
        return
    with open_accounts(settings, store) as opened:
        password = await make_first_administrator(opened.accounts, settings.access.admin_password_file)
        if not await opened.accounts.has_administrator():
            log.warning(
                "nobody who can sign in is admin of everything",
                fix=f"condery user passwd {ADMINISTRATOR}, or condery user add NAME --admin",
            )
    if password is not None:
        sys.stderr.write(
            f"\ncondery: there were no accounts; sign in as {ADMINISTRATOR} with the password {password} within "
            f"{PRINTED_DAYS} days, and set another one with: condery user passwd {ADMINISTRATOR}\n\n"
        )
        sys.stderr.flush()
