"""Keys as issuers publish them: a JWK set (RFC 7517), of which only what can sign an identity token is kept.

Sets are parsed in threads, which also import the libraries for that (`auth.late`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from storage import strict_json
from storage.errors import JsonInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MOST_KEYS = 100
LONGEST_KID = 255

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Mapping[str, tuple[str, ...]] = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_ED25519 = ("EdDSA",)

ALGORITHMS = frozenset({*_RSA, "ES256", "ES384", "ES512", *_ED25519})
"""What identity tokens may be signed with: nothing with a shared secret, and not nothing."""

RSA_BITS = range(2048, 8193)
"""Shorter keys can be broken, and longer ones keep us busy."""
MOST_EXPONENT = 1 << 32


@dataclass(frozen=True)
class IssuerKey:
    """A key, and the algorithms that it may be used with: its type decides, not the token."""

    key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
    algorithms: tuple[str, ...]


class KeySetInvalid(Exception):
    """A text is not a JWK set; its message ends a sentence about what published it."""


@dataclass(frozen=True)
class KeySet:
    named: Mapping[str, IssuerKey]
    """By their id."""
    only: IssuerKey | None
    """The one of a set of one: what it has signed need not name it (OpenID Connect Core 1.0, section 10.1)."""

    def find(self, kid: str) -> IssuerKey | None:
        """The key called `kid`, or if that is empty the only one."""
        return self.named.get(kid) if kid else self.only


def parse_key_set(body: bytes) -> KeySet:
    """The usable keys. Others are left out, as RFC 7517, section 5, wants it. Raises KeySetInvalid."""
    try:
        document = strict_json.parse(body)
    except JsonInvalid as error:
        raise KeySetInvalid(f"is no JWK set: {error}") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise KeySetInvalid(f"is no JWK set of at most {MOST_KEYS} keys")
    usable = [(each.get("kid"), key) for each in listed if isinstance(each, dict) and (key := _read_key(each))]
    named = [(kid, key) for kid, key in usable if isinstance(kid, str) and 0 < len(kid) <= LONGEST_KID]
    # which of two with one name is meant cannot be told
    once = {kid for kid, number in Counter(kid for kid, _ in named).items() if number == 1}
    only = usable[0][1] if len(usable) == 1 else None
    return KeySet({kid: key for kid, key in named if kid in once}, only)


def _read_key(jwk: Mapping[str, Any]) -> IssuerKey | None:
    """None for a key that is not for checking signatures, or cannot be used here."""
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = _load(jwk)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    named = jwk.get("alg")
    algorithms = tuple(each for each in key.algorithms if named is None or each == named)
    return replace(key, algorithms=algorithms) if algorithms else None


def _load(jwk: Mapping[str, Any]) -> IssuerKey:
    """With all algorithms of its type. Raises ValueError, and what the library raises for members of wrong types."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    makers: Mapping[Any, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    try:
        key = makers[jwk.get("kty")].from_jwk(dict(jwk))
    except jwt.PyJWTError as error:
        raise ValueError(str(error)) from None
    if isinstance(key, RSAPublicKey):
        usual = key.key_size in RSA_BITS and key.public_numbers().e <= MOST_EXPONENT
        return IssuerKey(key, _RSA if usual else ())
    if isinstance(key, EllipticCurvePublicKey):
        return IssuerKey(key, _CURVES.get(key.curve.name, ()))
    if isinstance(key, Ed25519PublicKey):
        return IssuerKey(key, _ED25519)
    raise ValueError("another type of key")
