"""Settings of environments in three layers: for all, for a namespace, and for one environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, or_, select

from storage.database.engine import Database
from storage.database.environment_tables import setting
from storage.events.outbox import Record

Document = Mapping[str, Any]


class EnvironmentSettings:
    """The table of settings; a layer is a document, which the builder understands. Empty names stand for all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, namespace: str = "", environment: str = "") -> Document:
        """The document of one layer; empty if nothing is set there."""
        these = and_(setting.c.namespace == namespace, setting.c.environment == environment)
        async with self._database.reading() as connection:
            text = (await connection.execute(select(setting.c.document).where(these))).scalar()
        return json.loads(text) if text is not None else {}

    async def merge(self, namespace: str, environment: str = "") -> Document:
        """What holds for an environment: the layers' fields, those of the nearest one first."""
        layers = [("", ""), (namespace, ""), (namespace, environment)]
        these = or_(
            *(
                and_(setting.c.namespace == each, setting.c.environment == other)
                for each, other in dict.fromkeys(layers)
            )
        )
        merged: dict[str, Any] = {}
        async with self._database.reading() as connection:
            query = select(setting.c.document).where(these).order_by(setting.c.namespace, setting.c.environment)
            for text in (await connection.execute(query)).scalars():
                merged |= json.loads(text)
        return merged

    async def put(
        self, document: Document, namespace: str = "", environment: str = "", record: Record[None] | None = None
    ) -> None:
        """Replace the document of one layer."""
        values = {"namespace": namespace, "environment": environment, "document": json.dumps(document)}
        statement = self._database.insert(setting).values(**values)
        statement = statement.on_conflict_do_update(
            index_elements=["namespace", "environment"], set_={"document": values["document"]}
        )
        async with self._database.writing() as connection:
            await connection.execute(statement)
            if record is not None:
                await record(connection, None)
