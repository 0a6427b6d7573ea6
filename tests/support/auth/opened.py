"""Everything about accounts on one database, with passwords that are cheap to hash."""

from __future__ import annotations

from dataclasses import dataclass

from argon2 import PasswordHasher

from auth.accounts.accounts import Accounts
from auth.accounts.bindings import HeldBindings
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.accounts.namespaces import Namespaces
from auth.accounts.passwords import Passwords
from auth.audit.actor import Actor
from auth.changing import AccessData
from auth.role import Roles

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ROOT = "on-demand"
TESTER = Actor.operator()


@dataclass(frozen=True)
class Opened:
    data: AccessData
    passwords: Passwords
    accounts: Accounts
    groups: Groups
    bindings: HeldBindings
    namespaces: Namespaces

    @classmethod
    def over(cls, data: AccessData, passwords: Passwords, roles: Roles | None = None) -> Opened:
        names = Names(ROOT)
        return cls(
            data,
            passwords,
            Accounts(data, names, passwords),
            Groups(data, names),
            HeldBindings(data, roles or Roles()),
            Namespaces(data, names),
        )

    async def add_person(self, name: str, password: str = "correct horse", *, administrator: bool = False) -> str:
        """The id of a new account."""
        return (await self.accounts.add_person(name, password, by=TESTER, administrator=administrator)).id
