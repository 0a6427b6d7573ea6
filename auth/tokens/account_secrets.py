"""Secrets that stand for an account: what a browser keeps while it is signed in, and what docker keeps for a password.

Whoever shows the text is taken for the one it was made for. Nobody guesses it, only its hash is stored, and it ends
with the account's epoch. Each kind has a table of its own, with these columns and some more.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.changing import AccessData
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import hash_of
from storage.database.sql_clock import is_ahead

MOST_OF_ACCOUNT = 100
"""The oldest give way: each sign-in makes one, and not every one is followed by signing out, of which nobody hears."""
MOST_OF_TOKEN = 10
"""Those that were made with one access token have room of their own: it takes none away from its owner."""
LONGEST = 128
"""Characters; ours are shorter."""


class AccountSecrets:
    """Those in `table`, which an error calls `noun`."""

    def __init__(self, data: AccessData, table: Table, noun: str) -> None:
        self._data = data
        self._table = table
        self._noun = noun

    async def add(
        self, connection: AsyncConnection, text: str, credential: Credential, expires: float, **more: object
    ) -> None:
        """Keep the hash of `text`, for whoever has proved `credential`, until `expires` (UNIX seconds)."""
        now, table, most = time.time(), self._table, MOST_OF_ACCOUNT
        mine = table.c.account == credential.account
        if "access_token" in table.c:
            mine &= table.c.access_token.is_not_distinct_from(credential.access_token or None)
            most = MOST_OF_TOKEN if credential.access_token else most
        newest = select(table.c.hash).where(mine).order_by(table.c.created.desc(), table.c.hash)
        await connection.execute(delete(table).where(table.c.expires <= now))
        await connection.execute(delete(table).where(mine, table.c.hash.not_in(newest.limit(most - 1))))
        row = {"account": credential.account, "epoch": credential.epoch, "created": now, "expires": expires}
        await connection.execute(insert(table).values(hash=hash_of(text), **row, **more))

    async def find(self, text: str) -> Any:
        """The row of `text`. Raises CredentialsInvalid."""
        if len(text) > LONGEST or not text.isascii():
            raise CredentialsInvalid(f"it is no {self._noun}")
        async with self._data.database.reading() as connection:
            query = select(self._table).where(self._table.c.hash == hash_of(text))
            row = (await connection.execute(query)).first()
        # what a clock made that was ahead would be accepted for as long as it was ahead
        if row is None or is_ahead(row.created, time.time()):
            raise CredentialsInvalid(f"there is no such {self._noun}")
        return row
