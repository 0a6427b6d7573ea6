"""Accounts of a site, and what they sign in with."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from auth.accounts.accounts import Accounts
from auth.accounts.bindings import HeldBindings, Holder
from auth.accounts.names import Names
from auth.accounts.passwords import Passwords
from auth.audit.actor import Actor
from auth.changing import AccessData
from auth.principal import Principal
from auth.role import Roles
from auth.tokens.credential import Credential
from auth.tokens.registry_tokens import Issued
from tests.support.auth.opened import CHEAP
from tests.support.registry.serving import ROOT, Site

PASSWORD = "correct horse battery"
BY = Actor.operator()


def basic(name: str, password: str = PASSWORD) -> Mapping[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Person:
    """An account with an access token of its own."""

    principal: Principal
    token: str
    token_id: str

    @property
    def headers(self) -> Mapping[str, str]:
        return bearer(self.token)


@dataclass
class People:
    site: Site
    accounts: Accounts = field(init=False)
    bindings: HeldBindings = field(init=False)

    def __post_init__(self) -> None:
        store = self.site.workshop.store
        data = AccessData(store.database, store.changes)
        self.accounts = Accounts(data, Names(ROOT), Passwords(data, 2, CHEAP))
        self.bindings = HeldBindings(data, Roles())

    async def add(self, name: str, *bindings: str, password: str | None = None, take_namespace: bool = False) -> Person:
        account = await self.accounts.add_person(name, password, by=BY, take_namespace=take_namespace)
        for each in bindings:
            await self.bindings.bind(Holder("account", name), each, by=BY)
        principal = await self.load(account.id)
        made = await self.site.access.tokens.access.make(principal, "the test", None, by=BY)
        return Person(principal, made.text, made.token.id)

    async def load(self, account_id: str) -> Principal:
        loaded = await self.site.access.loader.load(account_id)
        assert loaded
        return loaded.principal

    async def access_token(self, person: Person, *bindings: str) -> str:
        made = await self.site.access.tokens.access.make(person.principal, "limited", bindings or None, by=BY)
        return made.text

    async def registry_token(self, person: Person | None, scopes: Mapping[str, Sequence[str]]) -> Issued:
        """As the token endpoint would give it, whatever the person may do."""
        account = person.principal.id if person is not None else ""
        asked = {name: frozenset(actions) for name, actions in scopes.items()}
        return await self.site.access.tokens.registry.issue(Credential(account), "the test", asked)
