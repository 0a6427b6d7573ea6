"""The keys that registry tokens are signed with (EdDSA, RFC 8037), in rows that all processes and machines share.

One key signs at a time. The first who needs one makes it; one that is old is retired by whoever notices, signs nothing
more, and is kept until the last token that it has signed has expired.

With a key in the settings (`storage.vault`) what signs is encrypted in its row; without one, who reads the database may
sign. Rows of before there was a key work as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.changing import AccessData
from auth.late import import_late
from storage.clock import DAY, SKEW_SECONDS
from storage.database.account_tables import signing_key
from storage.errors import VaultLocked
from storage.vault.vault import NO_VAULT, Vault, is_sealed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ROTATE_SECONDS = 90 * DAY
"""Age from which a key signs nothing more."""
KEEP_SECONDS = DAY
"""Time for which a retired key is kept: longer than any token that it has signed is valid."""
ASK_AGAIN_SECONDS = 1.0
"""For a key that is not known, the database is asked at most so often: anybody can make up names of keys."""

_LOCK = "//signing-key"
_KEY_TEXT = "auth.tokens.key_text"
"""The module that functions here import when there is a key."""


@dataclass(frozen=True)
class SigningKey:
    """`private` signs; it is None for one that is retired."""

    kid: str
    public: Ed25519PublicKey
    created: float
    private: Ed25519PrivateKey | None = field(default=None, repr=False)


class SigningKeys:
    """All keys of the database, as far as they are still good for something."""

    def __init__(self, data: AccessData, vault: Vault = NO_VAULT) -> None:
        self._data = data
        self._vault = vault
        self._keys: Mapping[str, SigningKey] = {}
        self._stamp: int | None = None
        self._asked = -ASK_AGAIN_SECONDS

    async def current(self) -> SigningKey:
        """The key that signs, made now where there is none or only one that is old."""
        await import_late(_KEY_TEXT)
        stamp = self._data.stamp
        if stamp != self._stamp:
            await self._load(stamp)
        found = self._signing()
        if found is None:
            await self._rotate()
            found = self._signing()
            assert found is not None, "it was made, or somebody else made one"
        return found

    async def find(self, kid: str) -> Ed25519PublicKey | None:
        """The key that has signed what names `kid`; None for none that counts."""
        await import_late(_KEY_TEXT)
        stamp = self._data.stamp
        if stamp != self._stamp:
            await self._load(stamp)
        elif kid not in self._keys and time.monotonic() - self._asked >= ASK_AGAIN_SECONDS:
            # another machine may have made it, whose announcement is still on its way
            await self._load(stamp)
        key = self._keys.get(kid)
        return key.public if key is not None else None

    def _signing(self) -> SigningKey | None:
        now = time.time()
        keys = [each for each in self._keys.values() if each.private is not None and not _is_old(each.created, now)]
        return max(keys, key=lambda each: (each.created, each.kid), default=None)

    async def _load(self, stamp: int) -> None:
        self._asked = time.monotonic()
        async with self._data.database.reading() as connection:
            self._keys = await self._read(connection)
        self._stamp = stamp

    async def _read(self, connection: AsyncConnection) -> Mapping[str, SigningKey]:
        now = time.time()
        rows = await connection.execute(select(signing_key))
        return {row.kid: self._read_row(row) for row in rows if row.expires is None or row.expires > now}

    def _read_row(self, row: Any) -> SigningKey:
        """Raises VaultLocked."""
        from auth.tokens.key_text import read_private, read_public

        private = read_private(self._open(row)) if row.retired is None else None
        return SigningKey(row.kid, read_public(row.public), row.created, private)

    def _open(self, row: Any) -> str:
        return self._vault.unseal(row.private, _name(row.kid)) if is_sealed(row.private) else str(row.private)

    def _close(self, text: str, kid: str) -> str:
        return self._vault.seal(text, _name(kid)) if self._vault.has_keys else text

    async def check(self) -> None:
        """Raises VaultLocked if the key that signs cannot be decrypted."""
        async with self._data.database.reading() as connection:
            await self._read(connection)

    async def reseal(self, *, forget: bool = False) -> tuple[int, int]:
        """Encrypt those that sign with the newest key of the vault; how many, and how many were deleted.

        With `forget`, those that cannot be decrypted are deleted: another one is made when one is needed. Raises
        VaultLocked, VaultKeyMissing.
        """
        done = forgotten = 0
        async with self._data.changing() as connection:
            await self._data.database.lock(connection, _LOCK)
            query = select(signing_key).where(signing_key.c.retired.is_(None))
            for row in (await connection.execute(query)).all():
                this = signing_key.c.kid == row.kid
                try:
                    text = self._vault.seal(self._open(row), _name(row.kid))
                except VaultLocked:
                    if not forget:
                        raise
                    await connection.execute(delete(signing_key).where(this))
                    forgotten += 1
                    continue
                await connection.execute(update(signing_key).where(this).values(private=text))
                done += 1
        return done, forgotten

    async def _rotate(self) -> None:
        """Make a key and retire the others, unless somebody else has just done so."""
        stamp = self._data.stamp
        async with self._data.changing() as connection:
            await self._data.database.lock(connection, _LOCK)
            self._keys = await self._read(connection)
            if self._signing() is None:
                now = time.time()
                await connection.execute(delete(signing_key).where(signing_key.c.expires <= now))
                # what it signs with is deleted, not only left unused
                retired = {"retired": now, "expires": now + KEEP_SECONDS, "private": ""}
                await connection.execute(update(signing_key).where(signing_key.c.retired.is_(None)).values(**retired))
                await connection.execute(insert(signing_key).values(**self._make_row(now)))
                self._keys = await self._read(connection)
        self._stamp = stamp

    def _make_row(self, now: float) -> Mapping[str, object]:
        """That of a new key."""
        from auth.tokens.key_text import make_private, thumbprint, write_private, write_public

        private = make_private()
        public = private.public_key()
        kid = thumbprint(public)
        return {
            "kid": kid,
            "private": self._close(write_private(private), kid),
            "public": write_public(public),
            "created": now,
        }


def _name(kid: str) -> str:
    return f"the signing key {kid}"


def _is_old(created: float, now: float) -> bool:
    """Also when it was made by a clock that was ahead, since it would sign for as long as that was."""
    return not -SKEW_SECONDS <= now - created < ROTATE_SECONDS
