"""The first account of a server that others can reach: `admin`, with a password that nobody else can know.

The password comes from a file that the settings name. Otherwise it is generated here and printed once. A printed
password expires after some days unless another is set, since others may read it later.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from auth.accounts.accounts import Accounts
from auth.audit.actor import Actor
from auth.errors import PasswordFileUnusable
from storage.clock import DAY
from storage.disk.secret_file import read_first_line

ADMINISTRATOR = "admin"
BY = Actor.operator(at="the first start")
PRINTED_DAYS = 7
"""For how long a printed password is accepted."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without characters that look alike; 32 characters, so 20 of them have 100 bits."""


async def make_first_administrator(accounts: Accounts, password_file: Path | None) -> str | None:
    """Make the administrator if there is no account yet; return the password to print if it was generated now.

    Several processes and machines may call this at once, and one of them makes the account. Raises
    PasswordFileUnusable, PasswordUnfit.
    """
    if await accounts.any():
        return None
    if password_file is not None:
        await accounts.add_first(ADMINISTRATOR, _read(password_file), by=BY, expires=None)
        return None
    password = _make_password()
    expires = time.time() + PRINTED_DAYS * DAY
    return password if await accounts.add_first(ADMINISTRATOR, password, by=BY, expires=expires) else None


def _read(path: Path) -> str:
    try:
        return read_first_line(path)
    except ValueError as error:
        raise PasswordFileUnusable(str(path), str(error)) from None


def _make_password() -> str:
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
