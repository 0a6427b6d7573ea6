"""Browsers that are signed in. A browser has a text that nobody guesses, and only its hash is stored."""

from __future__ import annotations

import time

from sqlalchemy import delete, insert, select, update

from auth.changing import AccessData
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import hash_of, new_secret
from storage.database.account_tables import account, browser_session
from storage.database.sql_clock import is_ahead

HOUR = 3600.0
MOST_OF_ACCOUNT = 100
"""The oldest give way: not everybody signs out."""
LONGEST = 128
"""Characters; ours are shorter."""


class BrowserSessions:
    """Those of all accounts, for `hours` each. They end with a new password, and when everything is signed out."""

    def __init__(self, data: AccessData, hours: float) -> None:
        self._data = data
        self.seconds = hours * HOUR

    async def make(self, credential: Credential, issuer: str) -> str:
        """One for who has signed in at `issuer`; always a new one, so that nobody can have prepared it."""
        now, text, table = time.time(), new_secret(), browser_session
        mine = table.c.account == credential.account
        newest = select(table.c.hash).where(mine).order_by(table.c.created.desc(), table.c.hash)
        # nobody remembers that it was not there, so nothing has to be forgotten
        async with self._data.database.writing() as connection:
            await connection.execute(update(account).where(account.c.id == credential.account).values(signed_in=now))
            await connection.execute(delete(table).where(table.c.expires <= now))
            await connection.execute(delete(table).where(mine, table.c.hash.not_in(newest.limit(MOST_OF_ACCOUNT - 1))))
            await connection.execute(
                insert(table).values(
                    hash=hash_of(text),
                    account=credential.account,
                    epoch=credential.epoch,
                    created=now,
                    expires=now + self.seconds,
                    issuer=issuer,
                )
            )
        return text

    async def find(self, text: str) -> Credential:
        """What whoever shows `text` has proved. Raises CredentialsInvalid."""
        if len(text) > LONGEST or not text.isascii():
            raise CredentialsInvalid("it is no session")
        async with self._data.database.reading() as connection:
            query = select(browser_session).where(browser_session.c.hash == hash_of(text))
            row = (await connection.execute(query)).first()
        # one that a clock made that was ahead would hold for as long as it was ahead
        if row is None or is_ahead(row.created, time.time()):
            raise CredentialsInvalid("there is no such session")
        return Credential(row.account, row.epoch, expires=row.expires)

    async def end(self, text: str) -> None:
        """Everywhere and at once."""
        async with self._data.changing() as connection:
            await connection.execute(delete(browser_session).where(browser_session.c.hash == hash_of(text)))
