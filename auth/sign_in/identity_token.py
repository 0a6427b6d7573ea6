"""Identity tokens: whether one is what its issuer has signed, for us, and now (OpenID Connect Core 1.0; RFC 8725).

Nothing in a token is believed before its signature, except which issuer and which of that issuer's keys to check it
with. A key, an address of one or an extension in the header has misled many a service, so a header with any of these is
refused.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from auth.sign_in.errors import IdentityRefused
from auth.sign_in.issuer_keys import IssuerKeys
from auth.sign_in.key_set import ALGORITHMS, LONGEST_KID, IssuerKey
from auth.tokens.secrets_text import is_spelled_once
from storage import strict_json
from storage.errors import JsonInvalid

LONGEST = 16384
"""Characters of a token."""
LONGEST_SUBJECT = 255
"""OpenID Connect Core 1.0, section 2."""
LEEWAY_SECONDS = 30.0
"""How far an issuer's clock may differ from ours."""
DEPTH = 16
"""Of nested claims."""
LATEST = 1 << 53
"""The largest time: any number beyond it is none that an issuer means."""

_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})


class Unverified(NamedTuple):
    """What a token says, which anybody can write."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def read_unverified(text: str) -> Unverified | None:
    """None for what is no token."""
    if len(text) > LONGEST or not text.isascii() or text.count(".") != 2 or not is_spelled_once(text):
        return None
    header, claims, _ = text.split(".")
    try:
        parsed = _parse(header), _parse(claims)
    except (JsonInvalid, ValueError):
        return None
    if not isinstance(parsed[0], dict) or not isinstance(parsed[1], dict):
        return None
    return Unverified(*parsed)


async def verify(text: str, issuer: str, audience: str, keys: IssuerKeys) -> Mapping[str, Any]:
    """The claims of a token that `issuer` has signed with one of its `keys` for `audience` alone.

    `iss` and `sub` are texts. Raises IdentityRefused, IssuerUnusable.
    """
    unverified = read_unverified(text)
    if unverified is None:
        raise IdentityRefused("it is no token")
    algorithm, kid = _check_header(unverified.header)
    try:
        claims = _read_signed(text, algorithm, await keys.find(kid))
    except IdentityRefused:
        if kid:
            raise
        # the issuer may have another key by now, which cannot be told by a name
        await keys.renew()
        claims = _read_signed(text, algorithm, await keys.find(kid))
    _check_claims(claims, issuer, audience)
    return claims


def expiry_of(claims: Mapping[str, Any]) -> float:
    """UNIX seconds from which verified claims do not hold any more."""
    return float(claims["exp"]) + LEEWAY_SECONDS


def _read_signed(text: str, algorithm: str, key: IssuerKey | None) -> Mapping[str, Any]:
    """The claims of a token that was signed with `key`. Raises IdentityRefused."""
    if key is None:
        raise IdentityRefused("its issuer has no such key")
    if algorithm not in key.algorithms:
        raise IdentityRefused(f"its key is not for {algorithm}")
    # with the key it is there (`auth.sign_in.key_set`)
    import jwt

    try:
        payload = jwt.PyJWS().decode(text, key.key, algorithms=[algorithm])
        # the very bytes that were signed
        claims: Mapping[str, Any] = strict_json.parse(payload, depth=DEPTH)
    except (jwt.PyJWTError, JsonInvalid, ValueError, TypeError) as error:
        raise IdentityRefused(f"its signature: {type(error).__name__}") from None
    return claims


def _check_header(header: Mapping[str, Any]) -> tuple[str, str]:
    """Algorithm and name of the key, which is empty for the only one of an issuer. Raises IdentityRefused."""
    if odd := set(header) - _HEADER:
        raise IdentityRefused(f"its header has {min(odd)[:32]!r}")
    kind, algorithm, kid = header.get("typ", "JWT"), header.get("alg"), header.get("kid", "")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise IdentityRefused("it is a token of another kind")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise IdentityRefused("it is not signed with an algorithm that is accepted here")
    if not isinstance(kid, str) or len(kid) > LONGEST_KID or (not kid and "kid" in header):
        raise IdentityRefused("it does not name its key")
    return algorithm, kid


def _check_claims(claims: Mapping[str, Any], issuer: str, audience: str) -> None:
    """Raises IdentityRefused."""
    if claims.get("iss") != issuer:
        raise IdentityRefused("it is of another issuer")
    # a token for several could be used here by another of them
    if claims.get("aud") not in (audience, [audience]):
        raise IdentityRefused("it is not for us alone")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise IdentityRefused(f"it has no subject of 1 to {LONGEST_SUBJECT} printable characters")
    now = time.time()
    if _time(claims, "exp") + LEEWAY_SECONDS <= now:
        raise IdentityRefused("it has expired")
    if _time(claims, "iat") - LEEWAY_SECONDS > now:
        raise IdentityRefused("it will be made in the future")
    if "nbf" in claims and _time(claims, "nbf") - LEEWAY_SECONDS > now:
        raise IdentityRefused("it does not hold yet")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise IdentityRefused(f"its claim {name} is no time")
    return float(value)


def _parse(part: str) -> Any:
    """Raises JsonInvalid, ValueError."""
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    return strict_json.parse(data, depth=DEPTH)
