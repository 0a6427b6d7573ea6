"""Refresh tokens: what docker keeps instead of a password, and shows at the token endpoint. Only a hash is stored."""

from __future__ import annotations

import time

from sqlalchemy import delete, insert, select

from auth.changing import AccessData
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import hash_of, new_secret
from storage.clock import DAY
from storage.database.account_tables import refresh_token
from storage.database.sql_clock import is_ahead

MOST_OF_ACCOUNT = 100
"""The oldest give way: each login makes one, and not every one is followed by a logout, of which nobody hears."""
LONGEST = 128
"""Characters; ours are shorter."""


class RefreshTokens:
    """Those of all accounts, for one service each."""

    def __init__(self, data: AccessData, days: float) -> None:
        self._data = data
        self._days = days

    async def make(self, credential: Credential, service: str, client_id: str) -> str:
        """One for who has proved `credential`; it ends with that, and after the days that are set."""
        now, text = time.time(), new_secret()
        table = refresh_token
        newest = (
            select(table.c.hash)
            .where(table.c.account == credential.account)
            .order_by(table.c.created.desc(), table.c.hash)
            .limit(MOST_OF_ACCOUNT - 1)
        )
        # nobody remembers that it was not there, so nothing has to be forgotten
        async with self._data.database.writing() as connection:
            await connection.execute(delete(table).where(table.c.expires <= now))
            mine = table.c.account == credential.account
            await connection.execute(delete(table).where(mine, table.c.hash.not_in(newest)))
            await connection.execute(
                insert(table).values(
                    hash=hash_of(text),
                    account=credential.account,
                    access_token=credential.access_token or None,
                    epoch=credential.epoch,
                    service=service,
                    client_id="".join(filter(str.isprintable, client_id[:255])),
                    created=now,
                    expires=min(now + self._days * DAY, credential.expires),
                )
            )
        return text

    async def find(self, text: str, service: str) -> Credential:
        """What whoever shows `text` has proved; raises CredentialsInvalid."""
        if len(text) > LONGEST or not text.isascii():
            raise CredentialsInvalid("it is no refresh token")
        async with self._data.database.reading() as connection:
            query = select(refresh_token).where(refresh_token.c.hash == hash_of(text))
            row = (await connection.execute(query)).first()
        # what a clock made that was ahead would be accepted for as long as it was ahead
        if row is None or row.service != service or is_ahead(row.created, time.time()):
            raise CredentialsInvalid("there is no such refresh token for this service")
        return Credential(row.account, row.epoch, row.access_token or "", expires=row.expires)
