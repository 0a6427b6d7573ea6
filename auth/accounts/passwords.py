"""Signs people in with name and password.

Neither the answer nor its time shows whether an account exists: a password is always compared, if need be with a hash
that no password has.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import select, update

from auth.accounts.account import Account, read_account
from auth.accounts.hashing import HashPool, check_password, read_password
from auth.accounts.names import is_name
from auth.changing import AccessData
from auth.errors import SignInBusy
from storage.clock import USE_SECONDS, is_within
from storage.database.account_tables import account
from storage.errors import StorageError

if TYPE_CHECKING:
    from argon2 import PasswordHasher


class Passwords:
    """Compares passwords, at most `hashes` at a time."""

    def __init__(self, data: AccessData, hashes: int, hasher: PasswordHasher | None = None) -> None:
        self._data = data
        self._pool = HashPool(hashes, hasher)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    async def verify(self, name: str, password: str, *, known: bool = False, network: str = "") -> Account | None:
        """The account with this name and password; None if one of them is wrong, or the account may not sign in.

        `known` says that they were right before, and `network` is who waits for that to be found so again.

        Raises SignInBusy.
        """
        row = await self._find(name)
        secret = read_password(password)
        stored = row.password if row is not None else None
        matches = await self._pool.matches(stored, secret or b"", known=known, network=network)
        if row is None or row.password is None or secret is None or not matches:
            return None
        found = read_account(row)
        if found.is_refused(time.time()):
            return None
        # a full disk must not lock out people who could free it
        with contextlib.suppress(StorageError, SignInBusy):
            await self._note(row, secret)
        return found

    async def hash(self, password: str) -> str:
        """Hash a new password for storing it. Raises PasswordUnfit, SignInBusy."""
        return await self._pool.hash(check_password(password))

    async def knows(self, name: str) -> bool:
        """Whether there is a person with this name. It takes as long for either answer."""
        return await self._find(name) is not None

    async def _find(self, name: str) -> Any:
        # databases do not accept every character, and no account has such a name
        query = select(account).where(account.c.name == (name if is_name(name) else ""), account.c.kind == "person")
        async with self._data.database.reading() as connection:
            return (await connection.execute(query)).first()

    async def _note(self, row: Any, secret: bytes) -> None:
        """Record a sign-in, now and then, and replace a hash that was made with other parameters."""
        values: dict[str, object] = {}
        now = time.time()
        if row.signed_in is None or not is_within(USE_SECONDS, row.signed_in, now):
            values["signed_in"] = now
        if self._pool.is_outdated(row.password):
            values["password"] = await self._pool.hash(secret)
        if values:
            # this does not change what anybody may do
            async with self._data.database.writing() as connection:
                statement = update(account).where(account.c.id == row.id, account.c.password == row.password)
                await connection.execute(statement.values(values))
