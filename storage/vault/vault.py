"""Encrypts the secrets of rows with AES-256-GCM (NIST SP 800-38D).

A sealed text names its key, and is bound to its row: copied into another one, it cannot be opened.

    sealed:1:KEY:BASE64URL    KEY is the key's id; then 12 random bytes, the ciphertext, and its tag of 16 bytes

There may be several keys: the first seals, all open. 96 random bits are good for 2^32 texts a key.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from storage.disk.secret_file import read_lines
from storage.errors import VaultKeyMissing, VaultKeysInvalid, VaultLocked
from storage.vault.key_text import read_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEALED = "sealed:1:"
_NONCE_BYTES = 12
_ID_DIGITS = 8


@dataclass(frozen=True)
class _Key:
    id: str
    cipher: AESGCM = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> Self:
        # most servers have no key, and so no use for 10 MB of library
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return cls(hashlib.sha256(b"condery vault key\0" + key).hexdigest()[:_ID_DIGITS], AESGCM(key))


class Vault:
    """Seals and opens. Without keys it can do neither, and says what to set."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._keys = {key.id: key for key in map(_Key.of, keys)}

    @classmethod
    def open(cls, keys: Iterable[str], path: Path | None) -> Self:
        """The `keys`, then those in the file. Raises VaultKeysInvalid."""
        found = list(keys)
        if path is not None:
            try:
                lines = [line.strip() for line in read_lines(path)]
                found += [each for each in lines if each and not each.startswith("#")]
                if not found:
                    raise ValueError("has no key; make one with: condery vault new-key")
                for each in found:
                    read_key(each)
            except ValueError as error:
                raise VaultKeysInvalid(str(path), str(error)) from None
        return cls(map(read_key, found))

    @property
    def has_keys(self) -> bool:
        return bool(self._keys)

    @property
    def newest(self) -> str | None:
        """The id of the key that seals."""
        return next(iter(self._keys), None)

    def seal(self, text: str, row: str) -> str:
        """Encrypt for `row`, whose name has to be the same when it is opened. Raises VaultKeyMissing."""
        if not self._keys:
            raise VaultKeyMissing
        key = next(iter(self._keys.values()))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return f"{SEALED}{key.id}:{_encode(nonce + key.cipher.encrypt(nonce, text.encode(), row.encode()))}"

    def unseal(self, text: str, row: str) -> str:
        """What was sealed for `row`. Raises VaultLocked."""
        name, _, encoded = text.removeprefix(SEALED).partition(":")
        if not is_sealed(text):
            raise VaultLocked(row, "it is not encrypted")
        key = self._keys.get(name)
        if key is None:
            raise VaultLocked(row, f"it is encrypted with the key {name}, which the settings do not have")
        # with the key's cipher it is there
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            return key.cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], row.encode()).decode()
        except (InvalidTag, ValueError):
            raise VaultLocked(row, "it was sealed for another row, or is damaged") from None


NO_VAULT = Vault()


def is_sealed(text: str) -> bool:
    return text.startswith(SEALED)


def key_of(text: str) -> str:
    """The id of the key that a sealed text was sealed with."""
    return text.removeprefix(SEALED).partition(":")[0]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
