"""Browsers that are signed in.

A provider's word is good for a while, then it is asked again. For that it gives a refresh token, which is stored
encrypted with the session's own text: whoever reads the database cannot use it, and the server can only while the
browser shows its cookie, which is when it has to.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, update

from auth.changing import AccessData
from auth.tokens.account_secrets import AccountSecrets
from auth.tokens.credential import Credential
from auth.tokens.secrets_text import hash_of, new_secret
from storage.database.account_tables import account, browser_session
from storage.database.sql_clock import is_ahead

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

HOUR = 3600.0
WORD_SECONDS = HOUR
"""For so long a provider's word is good: without a refresh token, or while the provider cannot be reached."""

SESSION_MADE, SESSION_ENDED = "session.create", "session.end"
"""Actions of the audit log."""

_NONCE = 12
"""Bytes (RFC 8439)."""


@dataclass(frozen=True)
class BrowserSession:
    credential: Credential
    """What whoever shows the session's text has proved. It expires with a provider's word."""
    ends: float
    """When the session itself does (UNIX seconds)."""
    issuer: str = ""
    """The provider where they signed in; empty for a password of ours."""
    checked: float = 0.0
    """When that has last said who they are (UNIX seconds)."""
    sealed: str = ""
    """The provider's refresh token, encrypted; empty if there is none, or while it is exchanged."""


class BrowserSessions:
    """Those of all accounts, for `hours` each. They end with a new password, and when everything is signed out."""

    def __init__(self, data: AccessData, hours: float) -> None:
        self._data = data
        self._secrets = AccountSecrets(data, browser_session, "session")
        self.seconds = hours * HOUR

    async def make(self, credential: Credential, issuer: str = "", refresh: str = "") -> str:
        """One for who has signed in, at `issuer` if it is not here; always a new one, which nobody can have prepared.

        `refresh` is the token with which the issuer can be asked again.
        """
        now, text = time.time(), new_secret()
        more = {"issuer": issuer, "checked": now, "refresh": await _seal(text, refresh)} if issuer else {}
        # nobody remembers that it was not there, so nothing has to be forgotten
        async with self._data.database.writing() as connection:
            await connection.execute(update(account).where(account.c.id == credential.account).values(signed_in=now))
            await self._secrets.add(connection, text, credential, now + self.seconds, **more)
        return text

    async def find(self, text: str) -> BrowserSession:
        """Raises CredentialsInvalid."""
        row = await self._secrets.find(text)
        if not row.issuer:
            return BrowserSession(Credential(row.account, row.epoch, expires=row.expires), row.expires)
        checked = row.created if row.checked is None or is_ahead(row.checked, time.time()) else row.checked
        credential = Credential(row.account, row.epoch, expires=min(row.expires, checked + WORD_SECONDS))
        return BrowserSession(credential, row.expires, row.issuer, checked, row.refresh or "")

    async def take_refresh(self, text: str, session: BrowserSession) -> str | None:
        """The provider's refresh token, for one process alone: most are good for once. None if another has taken it."""
        mine = browser_session.c.hash == hash_of(text), browser_session.c.refresh == session.sealed
        async with self._data.database.writing() as connection:
            taken = await connection.execute(update(browser_session).where(*mine).values(refresh=None))
        return await asyncio.to_thread(_decrypt, text, session.sealed) if taken.rowcount else None

    async def put_refresh(self, text: str, refresh: str, *, checked: bool) -> None:
        """Keep the next one, or the same again; `checked` says that the provider's word begins anew."""
        values: dict[str, Any] = {"refresh": await _seal(text, refresh)}
        if checked:
            values["checked"] = time.time()
        mine = browser_session.c.hash == hash_of(text)
        async with self._data.database.writing() as connection:
            await connection.execute(update(browser_session).where(mine).values(**values))

    async def end(self, text: str) -> None:
        """Everywhere and at once."""
        async with self._data.changing() as connection:
            await connection.execute(delete(browser_session).where(browser_session.c.hash == hash_of(text)))


async def _seal(text: str, secret: str) -> str | None:
    return await asyncio.to_thread(_encrypt, text, secret) if secret else None


# these import what they need (`auth.late`), and so run in threads


def _encrypt(text: str, secret: str) -> str:
    nonce = os.urandom(_NONCE)
    return base64.b64encode(nonce + _cipher(text).encrypt(nonce, secret.encode(), None)).decode()


def _decrypt(text: str, sealed: str) -> str | None:
    """None for what was not encrypted with `text`."""
    from cryptography.exceptions import InvalidTag

    try:
        data = base64.b64decode(sealed, validate=True)
        return _cipher(text).decrypt(data[:_NONCE], data[_NONCE:], None).decode()
    except (InvalidTag, ValueError):
        return None


def _cipher(text: str) -> ChaCha20Poly1305:
    """With a key that only who has the text can make; its hash, which is stored, is no help (RFC 5869)."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return ChaCha20Poly1305(HKDF(SHA256(), 32, None, b"condery: a provider's refresh token").derive(text.encode()))
