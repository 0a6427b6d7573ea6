"""Refresh tokens: what docker keeps instead of a password, and shows at the token endpoint."""

from __future__ import annotations

import time

from auth.changing import AccessData
from auth.tokens.account_secrets import AccountSecrets
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import new_secret
from storage.clock import DAY
from storage.database.account_tables import refresh_token


class RefreshTokens:
    """Those of all accounts, for one service each."""

    def __init__(self, data: AccessData, days: float) -> None:
        self._data = data
        self._secrets = AccountSecrets(data, refresh_token, "refresh token for this service")
        self._days = days

    async def make(self, credential: Credential, service: str, client_id: str) -> str:
        """One for who has proved `credential`; it ends with that, and after the days that are set."""
        text = new_secret()
        # nobody remembers that it was not there, so nothing has to be forgotten
        async with self._data.database.writing() as connection:
            await self._secrets.add(
                connection,
                text,
                credential,
                min(time.time() + self._days * DAY, credential.expires),
                access_token=credential.access_token or None,
                service=service,
                client_id="".join(filter(str.isprintable, client_id[:255])),
            )
        return text

    async def find(self, text: str, service: str) -> Credential:
        """What whoever shows `text` has proved; raises CredentialsInvalid."""
        row = await self._secrets.find(text)
        if row.service != service:
            raise CredentialsInvalid("there is no such refresh token for this service")
        return Credential(row.account, row.epoch, row.access_token or "", expires=row.expires)
