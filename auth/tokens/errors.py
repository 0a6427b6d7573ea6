"""Why credentials are not taken, or none are made."""

from __future__ import annotations

from auth.errors import AccessRefused, AccessUnknown, AuthError


class CredentialsInvalid(AuthError):
    """They are forged, expired, revoked or malformed, or their account is gone; which of these is for the log alone.

    What a stranger is told is the same for all.
    """

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__("these credentials are not accepted here: they are wrong, expired or revoked; sign in again")
        self.reason = reason
        self.name = name
        """Of the account that they are said to be of, if an account can have it; for the audit log."""


class AccessTokenInvalid(AccessRefused):
    """A new access token that cannot be made as it is asked for."""


class AccessTokenUnknown(AccessUnknown):
    def __init__(self, token: str, *, by_operator: bool = False) -> None:
        remedy = "; condery token list shows them" if by_operator else " of yours; list those that there are"
        super().__init__(f"there is no access token {token[:64]!r}{remedy}")
