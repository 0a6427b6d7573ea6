"""Sign-ins that began here and come back from a provider: few, short, and each only once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from sqlalchemy import delete, insert, select

from auth.changing import AccessData
from auth.tokens.secrets_text import hash_of, new_secret
from storage.database.account_tables import sign_in

SECONDS = 600.0
"""For who has to find their password first."""
MOST = 10_000
"""Anybody can begin one; the oldest give way."""


class PendingSignIns:
    """Those of one kind."""

    def __init__(self, data: AccessData, kind: str) -> None:
        self._database = data.database
        self._kind = kind

    async def begin(self, document: Mapping[str, str]) -> str:
        """Keep `document` until whoever has the text that is returned comes back."""
        now, state, table = time.time(), new_secret(), sign_in
        mine = table.c.kind == self._kind
        newest = select(table.c.state).where(mine).order_by(table.c.expires.desc(), table.c.state).limit(MOST - 1)
        async with self._database.writing() as connection:
            await connection.execute(delete(table).where(table.c.expires <= now))
            await connection.execute(delete(table).where(mine, table.c.state.not_in(newest)))
            row = {"kind": self._kind, "document": json.dumps(document), "expires": now + SECONDS}
            await connection.execute(insert(table).values(state=hash_of(state), **row))
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
