"""Base images' tags pinned to digests, for all processes and machines. The first process to resolve a tag decides."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from storage.catalog.documents import Document
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest


class Bases:
    """Pins by the key of a base's reference, with the facts known about each platform of the pinned image."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: str) -> Digest | None:
        """The pinned digest."""
        table = tables.base_pin
        async with self._database.reading() as connection:
            text = (await connection.execute(select(table.c.digest).where(table.c.key == key))).scalar()
        return Digest.parse(text) if text is not None else None

    async def pin(self, key: str, reference: str, digest: Digest) -> Digest:
        """Pin `digest` unless another process has already pinned one; return the pinned digest."""
        table = tables.base_pin
        statement = self._database.insert(table).values(
            key=key, reference=reference, digest=digest, created=time.time()
        )
        async with self._database.writing() as connection:
            await connection.execute(statement.on_conflict_do_nothing())
            found = await connection.execute(select(table.c.digest).where(table.c.key == key))
            return Digest.parse(found.scalar_one())

    async def find_image(self, key: str, platform: str) -> Document | None:
        table = tables.base_image
        query = select(table.c.document).where(table.c.pin == key, table.c.platform == platform)
        async with self._database.reading() as connection:
            text = (await connection.execute(query)).scalar()
        return json.loads(text) if text is not None else None

    async def put_image(self, key: str, platform: str, document: Mapping[str, Any]) -> None:
        """Store the facts about a platform, replacing earlier ones. The key must be pinned."""
        text = json.dumps(document)
        statement = self._database.insert(tables.base_image).values(pin=key, platform=platform, document=text)
        async with self._database.writing() as connection:
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["pin", "platform"], set_={"document": text})
            )
