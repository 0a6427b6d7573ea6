"""Accounts and bindings as rows, and loaders that read them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table, insert

from auth.accounts.defaults import Defaults
from auth.accounts.loading import PrincipalLoader
from auth.changing import AccessData
from auth.role import Roles
from auth.settings import AccessSettings
from storage.database.account_tables import account, binding


@dataclass
class Rows:
    """Writes rows like a process that wants others to notice the change."""

    data: AccessData
    _ids: itertools.count[int] = field(default_factory=itertools.count)

    def loader(
        self, settings: AccessSettings | None = None, *, roles: Roles | None = None, for_this_machine: bool = False
    ) -> PrincipalLoader:
        settings = settings or AccessSettings()
        defaults = Defaults(settings, "on-demand", for_this_machine=for_this_machine)
        return PrincipalLoader(self.data, roles or settings.own_roles, defaults)

    async def change(self, statement: Any) -> None:
        async with self.data.changing() as connection:
            await connection.execute(statement)

    async def insert(self, table: Table, **values: Any) -> None:
        await self.change(insert(table).values(**values))

    async def add_account(self, name: str, kind: str = "person", **values: Any) -> str:
        account_id = f"id-of-{name}"
        await self.insert(account, id=account_id, kind=kind, name=name, created=1.0, **values)
        return account_id

    async def bind(self, holder_kind: str, holder: str, pattern: str, role: str) -> None:
        await self.insert(
            binding,
            id=f"b{next(self._ids)}",
            holder_kind=holder_kind,
            holder=holder,
            pattern=pattern,
            role=role,
            created=1.0,
            created_by="the test",
        )
