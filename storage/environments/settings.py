"""Settings of environments in three layers: for all, for a namespace, and for one environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.database.environment_tables import setting
from storage.environments.usage import sum_sizes
from storage.events.announcements import ALL, announce
from storage.events.changes import Changes
from storage.events.outbox import Record
from storage.events.remembered import Remembered

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SettingLayer:
    """What is set in one place, as JSON text. Empty names stand for all."""

    namespace: str
    environment: str
    text: str

    @property
    def document(self) -> Document:
        found: Document = json.loads(self.text)
        return found


class EnvironmentSettings:
    """The table of settings; a layer is a document, which the builder understands. Empty names stand for all."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self._database = database
        self._changes = changes
        self._remembered = Remembered(lambda place: changes.stamp_of_namespace(place[0]), self._read_layers)

    async def list_layers(self, namespace: str = "", environment: str = "") -> list[SettingLayer]:
        """What is set for an environment, in the order of all, its namespace, itself; what sets nothing is left out."""
        return await self._remembered.find((namespace, environment))

    async def _read_layers(self, place: tuple[str, str]) -> list[SettingLayer]:
        namespace, environment = place
        places = dict.fromkeys([("", ""), (namespace, ""), (namespace, environment)])
        these = or_(*(_is_of(*place) for place in places))
        query = select(setting).where(these).order_by(setting.c.namespace, setting.c.environment)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [SettingLayer(row.namespace, row.environment, row.document) for row in rows]

    async def measure(self, namespace: str, environment: str | None = None) -> int:
        """What a quota bounds: bytes of the packages of all builds of a namespace, or of one environment."""
        async with self._database.reading() as connection:
            return await sum_sizes(connection, namespace, environment)

    async def change(
        self, changes: Document, namespace: str = "", environment: str = "", record: Record[None] | None = None
    ) -> Document:
        """Set the fields that `changes` has, and take away those that are None there; return the layer's document.

        `record` is run in the same transaction.
        """
        async with self._database.writing() as connection:
            document = await change_layer(self._database, connection, changes, namespace, environment)
            if record is not None:
                await record(connection, None)
        # what is remembered of tags may not be allowed any more
        self._changes.mark_all()
        return document


async def change_layer(
    database: Database, connection: AsyncConnection, changes: Document, namespace: str, environment: str
) -> Document:
    """`EnvironmentSettings.change` as a part of a transaction; mark all changes after it."""
    # of two who change different fields neither is lost
    await database.lock(connection, f"settings {namespace}/{environment}")
    query = select(setting.c.document).where(_is_of(namespace, environment))
    text = (await connection.execute(query)).scalar()
    merged = (json.loads(text) if text is not None else {}) | dict(changes)
    document = {name: value for name, value in merged.items() if value is not None}
    values = {"namespace": namespace, "environment": environment, "document": json.dumps(document)}
    statement = database.insert(setting).values(**values)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["namespace", "environment"], set_={"document": values["document"]}
        )
    )
    await announce(connection, ALL)
    return document


async def drop_settings(connection: AsyncConnection, namespace: str, environment: str | None = None) -> None:
    """Delete what is set for an environment, or for a namespace and all of its environments."""
    of_it = setting.c.namespace == namespace
    these = of_it if environment is None else and_(of_it, setting.c.environment == environment)
    await connection.execute(delete(setting).where(these))


def _is_of(namespace: str, environment: str) -> Any:
    return and_(setting.c.namespace == namespace, setting.c.environment == environment)
