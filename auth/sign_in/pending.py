"""Sign-ins that began here and have not come back from a provider, or from the person at a device.

They are few, short, and each comes back only once. Anybody can begin one, so the oldest give way: of one client its
own, and beyond the number of all those of the client that has most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.changing import AccessData
from auth.tokens.secrets_text import hash_of, new_secret
from storage.database.account_tables import sign_in

SECONDS = 600.0
"""For who has to find their password first."""
MOST = 10_000
MOST_OF_CLIENT = 200
"""Many people may share one address."""


class PendingSignIns:
    """Those of one kind."""

    def __init__(self, data: AccessData, kind: str) -> None:
        self._database = data.database
        self._kind = kind

    async def begin(self, document: Mapping[str, object], client: str, code: str | None = None) -> str:
        """Keep `document` until whoever has the text that is returned comes back.

        `client` is who began it, as `registry.peers.networks.client_of` names it. `code` is the hash of another text by
        which it can be found.
        """
        now, state = time.time(), new_secret()
        row = {"kind": self._kind, "document": json.dumps(document), "expires": now + SECONDS}
        async with self._database.writing() as connection:
            await connection.execute(delete(sign_in).where(sign_in.c.expires <= now))
            await self._make_room(connection, client)
            await connection.execute(insert(sign_in).values(state=hash_of(state), code=code, client=client, **row))
        return state

    async def take(self, state: str) -> Mapping[str, str] | None:
        """What was kept, for the first who comes back; None if there is nothing, or not any more."""
        table = sign_in
        mine = table.c.state == hash_of(state), table.c.kind == self._kind
        async with self._database.writing() as connection:
            row = (await connection.execute(select(table).where(*mine))).first()
            gone = await connection.execute(delete(table).where(*mine))
        # of several at once, one has deleted it
        if row is None or not gone.rowcount or row.expires <= time.time():
            return None
        document: Mapping[str, str] = json.loads(row.document)
        return document

    async def _make_room(self, connection: AsyncConnection, client: str) -> None:
        """Delete the oldest where one more would be too many."""
        table, mine = sign_in, sign_in.c.kind == self._kind
        await self._keep(connection, client, MOST_OF_CLIENT - 1)
        count = (await connection.execute(select(func.count()).select_from(table).where(mine))).scalar_one()
        if count < MOST:
            return
        number = func.count().label("number")
        counted = select(table.c.client, number).where(mine).group_by(table.c.client)
        found = (await connection.execute(counted.order_by(number.desc(), table.c.client).limit(1))).one()
        await self._keep(connection, found.client, found.number - (count - MOST + 1))

    async def _keep(self, connection: AsyncConnection, client: str, most: int) -> None:
        """Delete all but the newest of one client."""
        table = sign_in
        mine = table.c.kind == self._kind, table.c.client == client
        newest = select(table.c.state).where(*mine).order_by(table.c.expires.desc(), table.c.state).limit(max(most, 0))
        await connection.execute(delete(table).where(*mine, table.c.state.not_in(newest)))
