"""Texts that nobody guesses, and what is stored of them.

An access token can be told from all other text, by its beginning and its checksum, so that programs that look for
secrets in code and logs find it, and nothing else:

    condery_ + 40 characters of [0-9A-Za-z], chosen at random (238 bits) + their CRC-32 in 6 such characters
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import string
import zlib

PREFIX = "condery_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM = 40
CHECK = 6

ACCESS_TOKEN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM + CHECK}}}")


def new_secret() -> str:
    """256 bits for what no person reads."""
    return secrets.token_urlsafe(32)


def new_access_token() -> str:
    chosen = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    return f"{PREFIX}{chosen}{_checksum(chosen)}"


def is_access_token(text: str) -> bool:
    """Whether `text` has the form and the checksum; it says nothing of whether there is such a token."""
    if not ACCESS_TOKEN.fullmatch(text):
        return False
    chosen = text[len(PREFIX) : -CHECK]
    return text[-CHECK:] == _checksum(chosen)


def may_be_token(text: str) -> bool:
    """Whether it is worth while to find out if `text` is a token of any kind; almost no password is."""
    return text.startswith(PREFIX) or text.count(".") == 2


def is_spelled_once(token: str) -> bool:
    """Whether the signature of a JWT is written in the one way that RFC 7515 has for it.

    Decoders skip characters that mean nothing, so one signed token could be shown as any number of texts.
    """
    signature = token.rpartition(".")[2]
    try:
        decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except ValueError:
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == signature


def hash_of(text: str) -> str:
    """What is stored. No salt and no slow hash: nobody can try 2^238 texts."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    while number:
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits.rjust(CHECK, ALPHABET[0])
