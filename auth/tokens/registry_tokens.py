"""What the token endpoint gives: a signed statement of who may do what in which repositories, for some minutes (JWT).

Of a token that comes back nothing is believed before its signature, and its signature not before its header says what
ours say and nothing more: a key, an address of one or an extension in the header has misled many a registry.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auth.accounts.account import new_id
from auth.late import import_late
from auth.principal import Scopes
from auth.tokens.credential import Credential, Workload, write_access
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import is_spelled_once
from auth.tokens.signing_keys import SigningKeys
from storage.clock import SKEW_SECONDS

ALGORITHM = "EdDSA"
ISSUER = "condery"
TYPE = "registry+jwt"
"""Of the header, so that no token is taken for one of another kind (RFC 8725, 3.11)."""
LONGEST = 8192
"""Characters; ours are shorter, since no header of a request may be longer."""

_HEADER = frozenset({"alg", "kid", "typ"})
_REQUIRED = ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access"]
_KID = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Issued:
    text: str
    seconds: int
    at: float
    """UNIX seconds."""

    def __repr__(self) -> str:
        return f"Issued(seconds={self.seconds}, at={self.at})"


class RegistryTokens:
    """Those of the service `service`, valid for `seconds`."""

    def __init__(self, keys: SigningKeys, service: str, seconds: int) -> None:
        self._keys = keys
        self.service = service
        self._seconds = seconds

    async def issue(self, credential: Credential, name: str, scopes: Scopes) -> Issued:
        """For whoever has proved `credential`; `name` is for people who look into the token."""
        await import_late("jwt")
        import jwt

        now = time.time()
        key = await self._keys.current()
        assert key.private is not None, "it signs"
        claims = {
            "iss": ISSUER,
            "aud": self.service,
            "sub": name,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + self._seconds,
            "jti": new_id(),
            "access": write_access(scopes),
            "account": credential.account,
            "epoch": credential.epoch,
            "access_token": credential.access_token,
        }
        if credential.workload is not None:
            claims["rules"] = credential.workload.rules
        text = jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": TYPE})
        return Issued(text, self._seconds, now)

    async def verify(self, text: str) -> Credential:
        """What the token says; raises CredentialsInvalid."""
        if len(text) > LONGEST or not text.isascii() or text.count(".") != 2:
            raise CredentialsInvalid("it is no token")
        if not is_spelled_once(text):
            raise CredentialsInvalid("its signature has another spelling")
        await import_late("jwt")
        import jwt

        try:
            kid = _check_header(jwt.get_unverified_header(text))
            key = await self._keys.find(kid)
            if key is None:
                raise CredentialsInvalid("no key of ours is called so")
            claims = jwt.decode(
                text,
                key,
                algorithms=[ALGORITHM],
                audience=self.service,
                issuer=ISSUER,
                leeway=SKEW_SECONDS,
                options={"require": _REQUIRED, "strict_aud": True},
            )
        except jwt.PyJWTError as error:
            raise CredentialsInvalid(type(error).__name__) from None
        return _read_claims(claims)


def _check_header(header: Mapping[str, Any]) -> str:
    """The id of the key; raises CredentialsInvalid for a header that is not as ours are."""
    kid = header.get("kid")
    if set(header) != _HEADER or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        raise CredentialsInvalid("its header is none of ours")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise CredentialsInvalid("its key has no name of ours")
    return kid


def _read_claims(claims: Mapping[str, Any]) -> Credential:
    """Of a token that we have signed, so what it lacks was not there when it was signed, by another version."""
    try:
        scopes = {f"{each['type']}:{each['name']}": frozenset(each["actions"]) for each in claims["access"]}
        return Credential(
            account=claims["account"],
            epoch=claims["epoch"],
            access_token=claims["access_token"],
            workload=Workload(claims["sub"], tuple(claims["rules"])) if "rules" in claims else None,
            scopes=scopes,
            expires=claims["exp"] + SKEW_SECONDS,
        )
    except (KeyError, TypeError):
        raise CredentialsInvalid("its claims are those of another version") from None
