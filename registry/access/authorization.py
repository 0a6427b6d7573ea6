"""The Authorization header: a token, or a name and a password, however the client writes it.

The same credentials have many spellings: letters of the scheme, spaces, bits of base64 that mean nothing. Whatever
remembers or counts credentials does so by what is read here, or their owner could make many of one.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from auth.tokens.errors import CredentialsInvalid
from storage.text import SPACES


class Shown(NamedTuple):
    """What somebody shows: `secret` is a token if there is no name, or else a password or what stands in its place."""

    name: str | None
    secret: str

    def __repr__(self) -> str:
        return f"Shown({'a token' if self.name is None else 'a name and a password'})"


def read_authorization(header: str) -> Shown:
    """Raises CredentialsInvalid for what is neither Bearer (RFC 6750) nor Basic (RFC 7617)."""
    scheme, _, text = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return Shown(None, text.strip(SPACES))
        case "basic":
            return _read_basic(text.strip(SPACES))
        case _:
            raise CredentialsInvalid("they are neither Bearer nor Basic")


def _read_basic(text: str) -> Shown:
    try:
        name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise CredentialsInvalid("they are no name and password in base64") from None
    if not colon:
        raise CredentialsInvalid("they have no password")
    return Shown(name, password)
