"""An account as lists show it, and its row."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

AccountKind = Literal["person", "robot"]


@dataclass(frozen=True)
class Account:
    """A person or a robot. Times are UNIX seconds."""

    id: str
    kind: AccountKind
    name: str
    display_name: str | None
    disabled: bool
    expires: float | None
    """From then on the account is refused: a robot for good, a person until they have a new password."""
    owner: str | None
    """The id of the person who owns this robot; None for persons, and for robots of the server."""
    epoch: int
    created: float
    signed_in: float | None
    has_password: bool

    def is_refused(self, now: float) -> bool:
        return self.disabled or has_expired(self.expires, now)


def new_id() -> str:
    """A new id of an account, a binding or a token; unlike a name, it is never used again, and it is no secret."""
    return uuid.uuid4().hex


def has_expired(expires: float | None, now: float) -> bool:
    return expires is not None and expires <= now


def read_account(row: Any) -> Account:
    """Read a row of the table `account`, without the hash of the password."""
    return Account(
        id=row.id,
        kind=row.kind,
        name=row.name,
        display_name=row.display_name,
        disabled=row.disabled,
        expires=row.expires,
        owner=row.owner,
        epoch=row.epoch,
        created=row.created,
        signed_in=row.signed_in,
        has_password=row.password is not None,
    )
