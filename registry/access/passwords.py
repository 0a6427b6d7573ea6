"""Signing in with a password, of which nobody may try too many."""

from __future__ import annotations

from auth.accounts.attempts import Attempts
from auth.accounts.loading import PrincipalLoader
from auth.accounts.passwords import Passwords
from auth.errors import TooManyAttempts
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid


class PasswordSignIns:
    """For all requests of one process."""

    def __init__(self, passwords: Passwords, attempts: Attempts, loader: PrincipalLoader) -> None:
        self._passwords = passwords
        self._attempts = attempts
        self._loader = loader

    async def verify(self, name: str, password: str, network: str) -> Credential:
        """Raises CredentialsInvalid, and TooManyAttempts or SignInBusy before anything is compared."""
        try:
            with self._attempts.of(name, password, network) as attempt:
                account = await self._passwords.verify(name, password, known=attempt.known)
                attempt.succeeded = account is not None
        except TooManyAttempts as error:
            raise TooManyAttempts(error.retry_after, await self._name_in_log(name)) from None
        if account is None:
            raise CredentialsInvalid("the name or the password is wrong", await self._name_in_log(name))
        return Credential(account.id, account.epoch)

    async def _name_in_log(self, name: str) -> str:
        """The name if an account has it: any other may be a password in the wrong field."""
        return name if await self._passwords.knows(name) else ""

    async def has_any(self) -> bool:
        """Whether there is anybody who could sign in."""
        return await self._loader.has_accounts()
