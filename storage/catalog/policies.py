"""What namespaces say of what may be in them: a document of each, which the builder and the quotas understand."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from sqlalchemy import select

from storage.database.account_tables import namespace as table
from storage.database.engine import Database
from storage.events.announcements import announce
from storage.events.outbox import Record
from storage.events.remembered import Remembered


class NamespacePolicies:
    """The column `policy` of the table of namespaces; each method is one transaction.

    `mark` is called with a namespace whose policy has changed: an on-demand repository has the name of its namespace,
    and what is remembered of its tags does not hold any more.
    """

    def __init__(
        self,
        database: Database,
        mark: Callable[[str], None] = lambda _: None,
        stamp: Callable[[str], Hashable] | None = None,
    ) -> None:
        """With `stamp`, which changes with each mark of a namespace and with all that decides about access, documents
        are remembered."""
        self._database = database
        self._mark = mark
        self._remembered = Remembered(stamp, self._read) if stamp is not None else None

    async def find(self, namespace: str) -> str | None:
        """The document as JSON text; None if there is no such namespace."""
        return await (self._remembered.find(namespace) if self._remembered else self._read(namespace))

    async def _read(self, namespace: str) -> str | None:
        async with self._database.reading() as connection:
            return (await connection.execute(select(table.c.policy).where(table.c.name == namespace))).scalar()

    async def list_all(self) -> dict[str, str]:
        """The document of every namespace, by its name."""
        query = select(table.c.name, table.c.policy).order_by(table.c.name)
        async with self._database.reading() as connection:
            return {row.name: row.policy for row in await connection.execute(query)}

    async def put(
        self, namespace: str, document: str, by: str, *, create: bool = False, record: Record[None] | None = None
    ) -> bool:
        """Replace the document of a namespace, which is made if `create`; False if there is none.

        `record` is run in the same transaction if it is done.
        """
        values = {"name": namespace, "created": time.time(), "created_by": by, "policy": document}
        statement = self._database.insert(table).values(**values)
        if create:
            statement = statement.on_conflict_do_update(index_elements=["name"], set_={"policy": document})
        else:
            statement = table.update().where(table.c.name == namespace).values(policy=document)
        async with self._database.writing() as connection:
            done = (await connection.execute(statement)).rowcount == 1
            if done and record is not None:
                await record(connection, None)
            await announce(connection, namespace)
        self._mark(namespace)
        return done
