"""Keys of the vault as they are written into files and variables."""

from __future__ import annotations

import base64
import binascii
import secrets

KEY_BYTES = 32
PREFIX = "condery_vault_"
"""The beginning of every key, so that programs that look for secrets find it."""


def new_key() -> str:
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode()


def read_key(text: str) -> bytes:
    """The bytes of a key. Raises ValueError, whose text does not repeat it."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX) + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or len(key) != KEY_BYTES:
        raise ValueError("has something that is not a key; make one with: condery vault new-key")
    return key
