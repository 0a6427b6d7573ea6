"""Signing in with name and password.

Whether an account exists shows neither in the answer nor in its time: a password is compared in any case, if need be
with a hash that nobody's password has.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Self

from argon2 import PasswordHasher
from sqlalchemy import select, update

from auth.accounts.account import Account, read_account
from auth.accounts.hashing import HASHER, HashPool, check_password, read_password
from auth.accounts.names import is_name
from auth.changing import AccessData
from auth.errors import SignInBusy
from storage.clock import USE_SECONDS, is_within
from storage.database.account_tables import account
from storage.errors import StorageError


class Passwords:
    """Compares passwords, `hashes` of them at a time."""

    def __init__(self, data: AccessData, hashes: int, hasher: PasswordHasher = HASHER) -> None:
        self._data = data
        self._pool = HashPool(hashes, hasher)
        self._nobodys = self._pool.hash_of_nobody

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    async def verify(self, name: str, password: str) -> Account | None:
        """The account of this name and password; None for what is wrong, and for whoever may not sign in.

        Raises SignInBusy.
        """
        row = await self._find(name)
        secret = read_password(password)
        stored = self._nobodys if row is None or row.password is None else row.password
        matches = await self._pool.matches(stored, secret or b"")
        if row is None or row.password is None or secret is None or not matches:
            return None
        found = read_account(row)
        if found.is_refused(time.time()):
            return None
        # a full disk keeps nobody out who might make room
        with contextlib.suppress(StorageError, SignInBusy):
            await self._note(row, secret)
        return found

    async def hash(self, password: str) -> str:
        """What is stored of a new password. Raises PasswordUnfit, SignInBusy."""
        return await self._pool.hash(check_password(password))

    async def _find(self, name: str) -> Any:
        # no database takes every character, and no account has such a name
        query = select(account).where(account.c.name == (name if is_name(name) else ""), account.c.kind == "person")
        async with self._data.database.reading() as connection:
            return (await connection.execute(query)).first()

    async def _note(self, row: Any, secret: bytes) -> None:
        """That somebody signed in, now and then; and hash anew what was hashed with other parameters."""
        values: dict[str, object] = {}
        now = time.time()
        if row.signed_in is None or not is_within(USE_SECONDS, row.signed_in, now):
            values["signed_in"] = now
        if self._pool.is_outdated(row.password):
            values["password"] = await self._pool.hash(secret)
        if values:
            # what anybody may do is not changed by it
            async with self._data.database.writing() as connection:
                statement = update(account).where(account.c.id == row.id, account.c.password == row.password)
                await connection.execute(statement.values(values))
