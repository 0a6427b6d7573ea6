"""Signing in with a password, of which nobody may try too many.

Comparing a password takes a tenth of a second. So one that was right is taken for right for a short time, and many
requests that come at once with the same one wait for one comparison. Whoever has the right password of one account
cannot keep more than one thread busy with it, and so keeps out nobody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from typing import NamedTuple

from auth.accounts.attempts import Attempts
from auth.accounts.hashing import normalize
from auth.accounts.loading import PrincipalLoader
from auth.accounts.passwords import Passwords
from auth.changing import AccessData
from auth.errors import SignInBusy, TooManyAttempts
from auth.remembered import RememberedAnswers
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from storage.errors import ConderyError

MOST_REMEMBERED = 10_000
SECONDS = 60.0
"""Time for which a password that was compared is not compared again."""


class Compared(NamedTuple):
    credential: Credential
    until: float
    """By the monotonic clock; it is compared again from then on."""


class _Check(NamedTuple):
    """One that is running."""

    task: asyncio.Task[Compared]
    network: str


class PasswordSignIns:
    """For all requests of one process."""

    def __init__(self, passwords: Passwords, attempts: Attempts, loader: PrincipalLoader, data: AccessData) -> None:
        self._passwords = passwords
        self._attempts = attempts
        self._loader = loader
        self._data = data
        self._key = secrets.token_bytes(32)
        self._compared: RememberedAnswers[bytes, Compared] = RememberedAnswers(data, MOST_REMEMBERED)
        self._checks: dict[bytes, _Check] = {}

    async def verify(self, name: str, password: str, network: str) -> Compared:
        """Raises CredentialsInvalid, and TooManyAttempts or SignInBusy before anything is compared."""
        key = self._key_of(name, password)
        # once anything has changed about access, the password may have, too
        if (compared := self._compared.find(key)) is not None:
            return compared
        while True:
            check = self._checks.get(key)
            if check is None:
                check = self._checks[key] = _Check(
                    asyncio.create_task(self._check(key, name, password, network)), network
                )
                check.task.add_done_callback(lambda _: self._checks.pop(key, None))
            try:
                # another request may wait for it when this one's client is gone
                return await asyncio.shield(check.task)
            except (TooManyAttempts, SignInBusy) as error:
                if check.network == network:
                    raise error.for_another() from error.__cause__
                # it was refused for where it came from, which this one does not
            except ConderyError as error:
                raise error.for_another() from error.__cause__

    async def has_any(self) -> bool:
        """Whether there is anybody who could sign in."""
        return await self._loader.has_accounts()

    async def _check(self, key: bytes, name: str, password: str, network: str) -> Compared:
        stamp = self._data.stamp
        try:
            with self._attempts.of(name, password, network) as attempt:
                account = await self._passwords.verify(name, password, known=attempt.known, network=network)
                attempt.succeeded = account is not None
        except TooManyAttempts as error:
            raise TooManyAttempts(error.retry_after, await self._name_in_log(name)) from None
        if account is None:
            raise CredentialsInvalid("the name or the password is wrong", await self._name_in_log(name))
        compared = Compared(Credential(account.id, account.epoch), time.monotonic() + SECONDS)
        self._compared.keep(key, compared, stamp, SECONDS)
        return compared

    async def _name_in_log(self, name: str) -> str:
        """The name if an account has it: any other may be a password in the wrong field."""
        return name if await self._passwords.knows(name) else ""

    def _key_of(self, name: str, password: str) -> bytes:
        """The same for all spellings of one password."""
        text = repr((name, normalize(password))).encode()
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()
