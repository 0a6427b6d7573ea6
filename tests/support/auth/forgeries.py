"""Registry tokens that are not what they seem: each is wrong in one way alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.tokens.api_tokens import write_api_token
from auth.tokens.key_text import thumbprint
from auth.tokens.registry_tokens import ISSUER, LONGEST, TYPE
from auth.tokens.signing_keys import SigningKey

SERVICE = "registry.example.org"


def part(document: Mapping[str, Any] | bytes) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Forger:
    """Writes tokens with the real key, so that nothing but what is changed is wrong with them."""

    key: SigningKey
    account: str = "id-of-alice"

    def sign(self, header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes) -> str:
        assert self.key.private
        text = f"{part(header)}.{part(payload)}"
        return f"{text}.{part(self.key.private.sign(text.encode()))}"

    def header(self, **changes: Any) -> dict[str, Any]:
        found = {"alg": "EdDSA", "kid": self.key.kid, "typ": TYPE, **changes}
        return {name: value for name, value in found.items() if value is not None}

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        found = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "alice",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": "1",
            "access": [{"type": "repository", "name": "team/app", "actions": ["pull"]}],
            "account": self.account,
            "epoch": 0,
            "access_token": "",
            **changes,
        }
        return {name: value for name, value in found.items() if value is not None}


def hs256(forger: Forger, secret: bytes) -> str:
    text = f"{part(forger.header(alg='HS256'))}.{part(forger.claims())}"
    return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def forged_jwk(forger: Forger) -> str:
    """CVE-2025-24976 (distribution): the key is in the header, and only its name is one that is trusted."""
    own = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": part(own.public_key().public_bytes_raw()), "kid": forger.key.kid}
    text = f"{part(forger.header(jwk=jwk))}.{part(forger.claims())}"
    return f"{text}.{part(own.sign(text.encode()))}"


def other_key(forger: Forger) -> str:
    own = Ed25519PrivateKey.generate()
    text = f"{part(forger.header())}.{part(forger.claims())}"
    return f"{text}.{part(own.sign(text.encode()))}"


def unknown_kid(forger: Forger) -> str:
    own = Ed25519PrivateKey.generate()
    text = f"{part(forger.header(kid=thumbprint(own.public_key())))}.{part(forger.claims())}"
    return f"{text}.{part(own.sign(text.encode()))}"


def es256(forger: Forger) -> str:
    headers = {"kid": forger.key.kid, "typ": TYPE}
    return jwt.encode(forger.claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=headers)


def public_key(forger: Forger, encoding: Encoding, form: PublicFormat) -> bytes:
    return forger.key.public.public_bytes(encoding, form)


def change_part(forger: Forger, place: int) -> str:
    header, payload, signature = forger.sign(forger.header(), forger.claims()).split(".")
    parts = [header, payload, signature]
    parts[place] = parts[place][:-2] + ("AA" if not parts[place].endswith("AA") else "BB")
    return ".".join(parts)


def spelled(forger: Forger, change: Callable[[str], str]) -> str:
    """The right signature, in letters that mean the same."""
    header, payload, signature = forger.sign(forger.header(), forger.claims()).split(".")
    assert change(signature) != signature
    return f"{header}.{payload}.{change(signature)}"


def next_letter(text: str) -> str:
    """The last letter of 64 bytes has four bits that mean nothing."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) + 1]


NOW = time.time()
FORGERIES: dict[str, Callable[[Forger], str]] = {
    "CVE-2025-24976: a jwk in the header, with a trusted kid": forged_jwk,
    "another spelling, by bits that mean nothing": lambda it: spelled(it, next_letter),
    "another spelling, by letters that mean nothing": lambda it: spelled(it, lambda text: f"!{text[:40]}*~{text[40:]}"),
    "another spelling, padded": lambda it: spelled(it, lambda text: f"{text}=="),
    "a jwk beside the right signature": lambda it: it.sign(it.header(jwk={"kty": "OKP"}), it.claims()),
    "jku": lambda it: it.sign(it.header(jku="https://evil.example/keys"), it.claims()),
    "x5c": lambda it: it.sign(it.header(x5c=["AA=="]), it.claims()),
    "x5u": lambda it: it.sign(it.header(x5u="https://evil.example/cert"), it.claims()),
    "CVE-2025-59420: an unknown crit": lambda it: it.sign(it.header(crit=["exp2"], exp2=1), it.claims()),
    "an empty crit": lambda it: it.sign(it.header(crit=[]), it.claims()),
    "b64 switched off": lambda it: it.sign(it.header(b64=False, crit=["b64"]), it.claims()),
    "zip": lambda it: it.sign(it.header(zip="DEF"), it.claims()),
    "alg none": lambda it: f"{part(it.header(alg='none'))}.{part(it.claims())}.",
    "alg None": lambda it: f"{part(it.header(alg='None'))}.{part(it.claims())}.",
    "alg none with a signature": lambda it: it.sign(it.header(alg="none"), it.claims()),
    "no alg": lambda it: it.sign(it.header(alg=None), it.claims()),
    "alg is a list": lambda it: it.sign(it.header(alg=["EdDSA"]), it.claims()),
    "HS256 with the public key as PEM": lambda it: hs256(
        it, public_key(it, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the public key's bytes": lambda it: hs256(it, public_key(it, Encoding.Raw, PublicFormat.Raw)),
    "HS256 without a key": lambda it: hs256(it, b""),
    "ES256": es256,
    "another key": other_key,
    "CVE-2026-27962: an unknown kid": unknown_kid,
    "no kid": lambda it: it.sign(it.header(kid=None), it.claims()),
    "kid is a path": lambda it: it.sign(it.header(kid="../../etc/passwd"), it.claims()),
    "kid is a number": lambda it: it.sign(it.header(kid=1), it.claims()),
    "no typ": lambda it: it.sign(it.header(typ=None), it.claims()),
    "typ JWT": lambda it: it.sign(it.header(typ="JWT"), it.claims()),
    "a token of the REST API": lambda it: write_api_token(it.key, "1", "team", {}, NOW, NOW + 300),
    "CVE-2026-44428: another service": lambda it: it.sign(it.header(), it.claims(aud="other.example.org")),
    "a list of services": lambda it: it.sign(it.header(), it.claims(aud=[SERVICE, "other.example.org"])),
    "no service": lambda it: it.sign(it.header(), it.claims(aud=None)),
    "another issuer": lambda it: it.sign(it.header(), it.claims(iss="evil")),
    "no issuer": lambda it: it.sign(it.header(), it.claims(iss=None)),
    "expired": lambda it: it.sign(it.header(), it.claims(exp=int(NOW) - 10)),
    "no expiry": lambda it: it.sign(it.header(), it.claims(exp=None)),
    "expires at a text": lambda it: it.sign(it.header(), it.claims(exp="never")),
    "expires at infinity": lambda it: it.sign(it.header(), it.claims(exp=float("inf"))),
    "not yet": lambda it: it.sign(it.header(), it.claims(nbf=int(NOW) + 86400)),
    "no nbf": lambda it: it.sign(it.header(), it.claims(nbf=None)),
    "issued tomorrow": lambda it: it.sign(it.header(), it.claims(iat=int(NOW) + 86400)),
    "no subject": lambda it: it.sign(it.header(), it.claims(sub=None)),
    "no access": lambda it: it.sign(it.header(), it.claims(access=None)),
    "access is a text": lambda it: it.sign(it.header(), it.claims(access="*")),
    "access has numbers": lambda it: it.sign(it.header(), it.claims(access=[1])),
    "no account": lambda it: it.sign(it.header(), it.claims(account=None)),
    "claims are a list": lambda it: it.sign(it.header(), b"[]"),
    "claims are no JSON": lambda it: it.sign(it.header(), b"\xff\xfe"),
    "a header that is no JSON": lambda it: it.sign(b"\xff", it.claims()),
    "a header that is a list": lambda it: it.sign(b"[]", it.claims()),
    "a header with 5,000 digits": lambda it: it.sign(b'{"alg":' + b"1" * 5000 + b"}", it.claims()),
    "a header with 3,000 brackets": lambda it: it.sign(b"[" * 3000, it.claims()),
    "another header's signature": lambda it: change_part(it, 0),
    "other claims' signature": lambda it: change_part(it, 1),
    "another signature": lambda it: change_part(it, 2),
    "no signature": lambda it: it.sign(it.header(), it.claims()).rpartition(".")[0] + ".",
    "two parts": lambda it: it.sign(it.header(), it.claims()).rpartition(".")[0],
    "four parts": lambda it: it.sign(it.header(), it.claims()) + ".AA",
    "cut off": lambda it: it.sign(it.header(), it.claims())[:-10],
    "huge": lambda it: it.sign(it.header(), it.claims(more="x" * LONGEST)),
    "letters that are no ASCII": lambda it: it.sign(it.header(), it.claims()) + "é",
    "half a surrogate pair": lambda it: it.sign(it.header(), it.claims()) + "\udc80",
    "nothing": lambda it: "",
    "dots": lambda it: "..",
}
