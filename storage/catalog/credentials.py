"""The credentials of namespaces: encrypted in their rows, and readable only by what sends them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cachetools import LRUCache
from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.credential import Form, Kind, NamespaceCredential, check
from storage.database.account_tables import credential as table
from storage.database.account_tables import namespace as namespaces
from storage.database.engine import Database
from storage.errors import CredentialUnfit, CredentialUnknown, VaultLocked
from storage.events.announcements import announce
from storage.events.changes import Changes
from storage.events.outbox import Record
from storage.oci import MIRROR_ROOT
from storage.vault.vault import Vault, key_of

CREDENTIALS = "//credentials"
"""The name that is marked as changed; no repository has it."""
_MOST_KEPT = 1000


@dataclass(frozen=True)
class ShownCredential:
    """All that anybody is ever shown of one. `form` is None if it cannot be decrypted with the keys at hand."""

    namespace: str
    kind: str
    address: str
    form: str | None
    username: str
    key: str
    """The id of the key that it is encrypted with."""
    created: float
    created_by: str


class NamespaceCredentials:
    """The table of credentials. What was read is kept until any process changes one."""

    def __init__(self, database: Database, changes: Changes, vault: Vault) -> None:
        self._database = database
        self._changes = changes
        self._vault = vault
        self._kept: LRUCache[str, tuple[int, tuple[NamespaceCredential, ...]]] = LRUCache(_MOST_KEPT)

    async def find(self, namespace: str) -> tuple[NamespaceCredential, ...]:
        """Those of a namespace, the longest address first. Raises VaultLocked."""
        stamp = self._changes.stamp(CREDENTIALS)
        kept = self._kept.get(namespace)
        if kept is None or kept[0] != stamp:
            query = select(table).where(table.c.namespace == namespace)
            async with self._database.reading() as connection:
                rows = (await connection.execute(query)).all()
            found = sorted(map(self._open, rows), key=lambda each: (-len(each.address), each.address))
            kept = self._kept[namespace] = stamp, tuple(found)
        return kept[1]

    async def check(self) -> None:
        """Raises VaultLocked if one cannot be decrypted."""
        async with self._database.reading() as connection:
            for row in (await connection.execute(select(table))).all():
                self._open(row)

    async def list_all(self, namespace: str | None = None) -> list[ShownCredential]:
        query = select(table).order_by(table.c.namespace, table.c.address)
        if namespace is not None:
            query = query.where(table.c.namespace == namespace)
        async with self._database.reading() as connection:
            return list(map(self._show, await connection.execute(query)))

    async def put(
        self,
        namespace: str,
        kind: Kind,
        address: str,
        form: Form,
        secret: str,
        username: str = "",
        *,
        by: str,
        root: str,
        record: Record[None] | None = None,
    ) -> None:
        """Set a credential, in place of an earlier one for the address; `root` is the namespace of on-demand names.

        `record` is run in the same transaction. Raises CredentialUnfit, VaultKeyMissing.
        """
        check(namespace, kind, address, form, username, secret)
        document = orjson.dumps({"form": form, "username": username, "secret": secret}).decode()
        row = {
            "id": secrets.token_hex(16),
            "namespace": namespace,
            "kind": kind,
            "address": address,
            "secret": self._vault.seal(document, _name(namespace, address)),
            "created": time.time(),
            "created_by": by,
        }
        async with self._database.writing() as connection:
            known = select(namespaces.c.name).where(namespaces.c.name == namespace)
            if namespace not in (root, MIRROR_ROOT) and (await connection.execute(known)).first() is None:
                raise CredentialUnfit(
                    f"there is no namespace {namespace}; create it with: condery namespace create {namespace}"
                )
            await connection.execute(delete(table).where(_is(namespace, address)))
            await connection.execute(insert(table).values(**row))
            await self._finish(connection, namespace, record)
        self._mark(namespace)

    async def remove(self, namespace: str, address: str, record: Record[None] | None = None) -> None:
        """Raises CredentialUnknown."""
        async with self._database.writing() as connection:
            if (await connection.execute(delete(table).where(_is(namespace, address)))).rowcount == 0:
                raise CredentialUnknown(namespace, address)
            await self._finish(connection, namespace, record)
        self._mark(namespace)

    async def reseal(self, *, forget: bool = False) -> tuple[int, int]:
        """Encrypt all with the newest key; how many there are, and how many were deleted.

        With `forget`, those that cannot be decrypted are deleted. Raises VaultLocked, VaultKeyMissing.
        """
        done = forgotten = 0
        async with self._database.writing() as connection:
            for row in (await connection.execute(select(table))).all():
                name = _name(row.namespace, row.address)
                try:
                    text = self._vault.seal(self._vault.unseal(row.secret, name), name)
                except VaultLocked:
                    if not forget:
                        raise
                    await connection.execute(delete(table).where(table.c.id == row.id))
                    forgotten += 1
                    continue
                await connection.execute(update(table).where(table.c.id == row.id).values(secret=text))
                done += 1
            await announce(connection, CREDENTIALS)
        self._changes.mark(CREDENTIALS)
        return done, forgotten

    async def _finish(self, connection: AsyncConnection, namespace: str, record: Record[None] | None) -> None:
        if record is not None:
            await record(connection, None)
        await announce(connection, CREDENTIALS)
        # what is remembered of tags may have been made with other credentials
        await announce(connection, namespace)

    def _mark(self, namespace: str) -> None:
        self._changes.mark(CREDENTIALS)
        self._changes.mark(namespace)

    def _open(self, row: Any) -> NamespaceCredential:
        document = orjson.loads(self._vault.unseal(row.secret, _name(row.namespace, row.address)))
        return NamespaceCredential(
            row.id,
            row.namespace,
            row.kind,
            row.address,
            document["form"],
            document["secret"],
            document["username"],
        )

    def _show(self, row: Any) -> ShownCredential:
        try:
            opened: NamespaceCredential | None = self._open(row)
        except VaultLocked:
            opened = None
        return ShownCredential(
            row.namespace,
            row.kind,
            row.address,
            opened.form if opened else None,
            opened.username if opened else "",
            key_of(row.secret),
            row.created,
            row.created_by,
        )


class NoCredentials:
    """Stands for `NamespaceCredentials` where nothing is sent on behalf of a namespace."""

    async def find(self, namespace: str) -> Sequence[NamespaceCredential]:
        return ()


def _name(namespace: str, address: str) -> str:
    """What a secret is bound to: it opens in no other namespace, and for no other address."""
    return f"the credential of namespace {namespace} for {address}"


def _is(namespace: str, address: str) -> Any:
    return and_(table.c.namespace == namespace, table.c.address == address)
