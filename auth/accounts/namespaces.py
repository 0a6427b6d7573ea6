"""Namespaces that somebody has created, with their metadata.

Pushing does not require one: the first part of a repository's name is its namespace. A namespace is created here to
hold bindings, metadata, policies and credentials.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import and_, delete, insert, or_, select, update

from auth.accounts.bindings import unbind_all
from auth.accounts.content import find_content
from auth.accounts.lookup import find_namespace, is_there
from auth.accounts.names import Names, is_name
from auth.audit.actor import Actor
from auth.audit.log import append
from auth.changing import AccessData
from auth.errors import MetadataInvalid, NamespaceInUse, NamespaceOfServer, NamespaceUnknown, NameTaken
from storage.database.account_tables import binding, credential, namespace
from storage.environments.settings import drop_settings
from storage.quotas.bounds import begins_with

MOST_METADATA = 64 << 10
"""The most bytes of JSON."""


@dataclass(frozen=True)
class Namespace:
    name: str
    created: float
    created_by: str
    metadata: Mapping[str, Any]
    quota: int | None
    """The most bytes of its repositories together; 0 is no limit, None is what the setting namespace_quota says."""
    number: int
    """What clients that know namespaces by numbers call it."""


class Namespaces:
    """The table of namespaces. If no namespace has a name, raises NamespaceUnknown."""

    def __init__(self, data: AccessData, names: Names) -> None:
        self._data = data
        self._names = names

    def check(self, name: str) -> str:
        """Check what is to be the name of a namespace that people use, and return it. Raises NameUnfit."""
        return self._names.check("a namespace", name)

    async def create(self, name: str, *, by: Actor) -> None:
        """Create a namespace. Raises NameUnfit, NameTaken."""
        self._names.check("a namespace", name)
        async with self._data.changing_alone() as connection:
            if await is_there(connection, namespace, name):
                raise NameTaken(name, "a namespace")
            await connection.execute(insert(namespace).values(name=name, created=time.time(), created_by=by.name))
            await append(connection, by.did("namespace.create", name))

    async def find(self, name: str) -> Namespace:
        async with self._data.database.reading() as connection:
            return _read(await find_namespace(connection, name))

    async def list_all(self) -> list[Namespace]:
        async with self._data.database.reading() as connection:
            rows = (await connection.execute(select(namespace).order_by(namespace.c.name))).all()
        return [_read(row) for row in rows]

    async def list_names(self) -> list[tuple[int, str]]:
        """The number and the name of each, by name."""
        query = select(namespace.c.id, namespace.c.name).order_by(namespace.c.name)
        async with self._data.database.reading() as connection:
            return [(number, name) for number, name in await connection.execute(query)]

    async def set_metadata(self, name: str, metadata: Mapping[str, Any], *, by: Actor) -> None:
        """Replace the metadata. Raises MetadataInvalid."""
        text = _write_metadata(metadata)
        async with self._data.changing_alone() as connection:
            await find_namespace(connection, name)
            await connection.execute(update(namespace).where(namespace.c.name == name).values(metadata=text))
            await append(connection, by.did("namespace.metadata", name))

    async def find_quota(self, name: str) -> int | None:
        """The quota of a namespace, whether it was created or not."""
        if not is_name(name):
            raise NamespaceUnknown(name, [])
        query = select(namespace.c.quota).where(namespace.c.name == name)
        async with self._data.database.reading() as connection:
            found: int | None = (await connection.execute(query)).scalar()
        return found

    async def set_quota(self, name: str, quota: int | None, *, by: Actor) -> None:
        """Set how many bytes the repositories of a namespace may hold together, as `Namespace.quota`.

        The namespaces that the server itself fills need not be created.
        """
        async with self._data.changing_alone() as connection:
            if self._names.is_of_server(name):
                row = self._data.database.insert(namespace).values(
                    name=name, created=time.time(), created_by=by.name, quota=quota
                )
                await connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"quota": quota}))
            else:
                await find_namespace(connection, name)
                await connection.execute(update(namespace).where(namespace.c.name == name).values(quota=quota))
            await append(connection, by.did("namespace.quota", name, quota="default" if quota is None else quota))

    async def delete(self, name: str, *, by: Actor) -> None:
        """Delete a namespace with the bindings that it holds, those on it alone, its credentials, and the
        settings of its environments.

        A later namespace of the same name finds none of them. Raises NamespaceInUse, NamespaceOfServer.
        """
        if self._names.is_of_server(name):
            raise NamespaceOfServer(name)
        async with self._data.changing_alone() as connection:
            await find_namespace(connection, name)
            stored = await find_content(connection, name)
            if stored is not None:
                raise NamespaceInUse(name, stored)
            of_it = and_(binding.c.holder_kind == "namespace", binding.c.holder == name)
            on_it = begins_with(binding.c.pattern, f"{name}/")
            await unbind_all(connection, or_(of_it, on_it), by=by)
            mine = credential.c.namespace == name
            held = select(credential.c.address).where(mine).order_by(credential.c.address)
            for address in (await connection.execute(held)).scalars():
                await append(connection, by.did("credential.remove", name, address=address))
            await connection.execute(delete(credential).where(mine))
            await drop_settings(connection, name)
            await connection.execute(delete(namespace).where(namespace.c.name == name))
            await append(connection, by.did("namespace.delete", name))


def _read(row: Any) -> Namespace:
    return Namespace(row.name, row.created, row.created_by, orjson.loads(row.metadata), row.quota, row.id)


def _write_metadata(metadata: Mapping[str, Any]) -> str:
    try:
        text = orjson.dumps(metadata).decode()
    except TypeError as error:
        raise MetadataInvalid(str(error)) from error
    if len(text) > MOST_METADATA:
        raise MetadataInvalid(f"it is larger than {MOST_METADATA} bytes")
    return text
