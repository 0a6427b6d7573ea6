"""Forged, foreign and malformed identity tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.sign_in.errors import IdentityRefused
from auth.sign_in.identity_token import LEEWAY_SECONDS, LONGEST, expiry_of, read_unverified, verify
from auth.sign_in.issuer_keys import AGAIN_SECONDS, Discovery, Fetch, IssuerKeys
from tests.support.servers.issuer import MAKERS, Issuer, segment, to_jwk

AUDIENCE = "https://registry.example.org"


@pytest.mark.parametrize("algorithm", list(MAKERS))
async def test_a_token_of_each_algorithm(algorithm: str, fetch: Fetch) -> None:
    async with Issuer(algorithm) as issuer:
        keys = IssuerKeys(Discovery(issuer.url, fetch), fetch)
        claims = issuer.claims(sub="org/app")
        assert await verify(issuer.sign(claims), issuer.url, AUDIENCE, keys) == claims
        assert expiry_of(claims) == claims["exp"] + LEEWAY_SECONDS
        assert await verify(issuer.token(aud=[AUDIENCE]), issuer.url, AUDIENCE, keys)


async def refuse(issuer: Issuer, keys: IssuerKeys, text: str) -> str:
    """The reason for which it is refused."""
    # the issuer's own token holds, so it is not for want of keys
    assert await verify(issuer.token(), issuer.url, AUDIENCE, keys)
    with pytest.raises(IdentityRefused) as caught:
        await verify(text, issuer.url, AUDIENCE, keys)
    assert caught.value.reason not in str(caught.value), "which of all it is, is for the log alone"
    return caught.value.reason


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "https://other.example.org"}, "not for us alone"),
        ({"aud": [AUDIENCE, "https://other.example.org"]}, "not for us alone"),
        ({"aud": AUDIENCE + "/"}, "not for us alone"),
        ({"aud": []}, "not for us alone"),
        ({"aud": {AUDIENCE: True}}, "not for us alone"),
        ({"aud": None}, "not for us alone"),
        ({"iss": "https://other.example.org"}, "another issuer"),
        ({"iss": ["x"]}, "another issuer"),
        ({"sub": ""}, "no subject"),
        ({"sub": 7}, "no subject"),
        ({"sub": ["somebody"]}, "no subject"),
        ({"sub": "x" * 256}, "no subject"),
        ({"sub": "some\nbody"}, "no subject"),
        ({"exp": None}, "exp is no time"),
        ({"exp": "2999-01-01"}, "exp is no time"),
        ({"exp": True}, "exp is no time"),
        ({"exp": -1}, "exp is no time"),
        ({"exp": 1 << 62}, "exp is no time"),
        ({"exp": [1 << 40]}, "exp is no time"),
        ({"iat": None}, "iat is no time"),
        ({"iat": "now"}, "iat is no time"),
        ({"nbf": "now"}, "nbf is no time"),
        ({"nbf": None}, "nbf is no time"),
        ({"deep": [[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]}, "it is no token"),
    ],
)
async def test_claims(issuer: Issuer, keys: IssuerKeys, claims: dict[str, Any], reason: str) -> None:
    assert reason in await refuse(issuer, keys, issuer.token(**claims))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "iat"])
async def test_a_claim_that_must_be_there(issuer: Issuer, keys: IssuerKeys, name: str) -> None:
    claims = issuer.claims()
    del claims[name]
    await refuse(issuer, keys, issuer.sign(claims))


@pytest.mark.parametrize(
    ("claim", "off", "holds"),
    [
        ("exp", -20, True),
        ("exp", -40, False),
        ("iat", 20, True),
        ("iat", 40, False),
        ("nbf", 20, True),
        ("nbf", 40, False),
    ],
)
async def test_clocks_may_differ_by_half_a_minute(
    issuer: Issuer, keys: IssuerKeys, claim: str, off: int, holds: bool
) -> None:
    text = issuer.token(**{claim: int(time.time()) + off})
    if holds:
        assert await verify(text, issuer.url, AUDIENCE, keys)
    else:
        await refuse(issuer, keys, text)


async def test_without_a_signature(issuer: Issuer, keys: IssuerKeys) -> None:
    for algorithm in ("none", "None", "NONE", "nOnE"):
        head = segment({"alg": algorithm, "kid": "first", "typ": "JWT"})
        for signature in ("", "AAAA"):
            text = f"{head}.{segment(issuer.claims())}.{signature}"
            assert "algorithm" in await refuse(issuer, keys, text)


async def test_with_the_public_key_as_a_shared_secret(issuer: Issuer, keys: IssuerKeys) -> None:
    public = issuer.keys["first"].public_key()
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(to_jwk(issuer.keys["first"], "first")).encode(),
    ]
    for algorithm, digest in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
        for secret in forms:
            signed = f"{segment({'alg': algorithm, 'kid': 'first'})}.{segment(issuer.claims())}"
            mac = hmac.new(secret, signed.encode(), digest).digest()
            text = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
            assert "algorithm" in await refuse(issuer, keys, text)


async def test_another_issuers_key_of_the_same_name(issuer: Issuer, keys: IssuerKeys) -> None:
    async with Issuer() as other:
        assert other.keys.keys() == issuer.keys.keys()
        assert "InvalidSignature" in await refuse(issuer, keys, other.token(iss=issuer.url))


@pytest.mark.parametrize("extension", ["jwk", "jku", "x5u", "x5c", "crit", "zip", "enc"])
async def test_cve_2025_24976_a_header_that_brings_a_key_or_an_extension(
    issuer: Issuer, keys: IssuerKeys, extension: str
) -> None:
    forged = Issuer()
    forged.url = issuer.url
    forged.rotate("first")
    values: dict[str, Any] = {
        "jwk": to_jwk(forged.keys["first"], "first"),
        "crit": ["exp"],
        "x5c": ["MII="],
        "zip": "DEF",
    }
    header = {extension: values.get(extension, "https://other.example.org")}
    assert f"its header has '{extension}'" in await refuse(issuer, keys, forged.sign(forged.claims(), header))
    # nor is it taken with a signature that is right
    assert f"its header has '{extension}'" in await refuse(issuer, keys, issuer.sign(issuer.claims(), header))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"kid": "second"}, "no such key"),
        ({"kid": ""}, "does not name its key"),
        ({"kid": "x" * 256}, "does not name its key"),
        ({"kid": "../first"}, "no such key"),
        ({"typ": "registry+jwt"}, "another kind"),
        ({"typ": "at+jwt"}, "another kind"),
        ({"alg": "RS256"}, "its key is not for RS256"),
        ({"alg": "ES384"}, "its key is not for ES384"),
        ({"alg": "EdDSA"}, "its key is not for EdDSA"),
        ({"b64": True}, "its header has 'b64'"),
        ({"alg": "ES256K"}, "algorithm"),
        ({"alg": ["ES256"]}, "algorithm"),
        ({"alg": None}, "algorithm"),
        ({"kid": 7}, "does not name its key"),
        ({"typ": 7}, "another kind"),
    ],
)
async def test_headers(issuer: Issuer, keys: IssuerKeys, header: dict[str, Any], reason: str) -> None:
    _, claims, signature = issuer.token().split(".")
    head = segment({"alg": "ES256", "kid": "first", **header})
    assert reason in await refuse(issuer, keys, f"{head}.{claims}.{signature}")


def sign_unnamed(issuer: Issuer, **claims: Any) -> str:
    """A token that does not say which key it was signed with."""
    (key,) = issuer.keys.values()
    return jwt.PyJWS().encode(json.dumps(issuer.claims(**claims)).encode(), key, algorithm=issuer.algorithm)


async def test_a_token_that_names_no_key_is_of_the_only_one(issuer: Issuer, keys: IssuerKeys) -> None:
    """OpenID Connect Core 1.0, section 10.1: only where there are several, it has to."""
    assert await verify(sign_unnamed(issuer, sub="1"), issuer.url, AUDIENCE, keys)
    async with Issuer() as other:
        assert "InvalidSignature" in await refuse(issuer, keys, sign_unnamed(other, iss=issuer.url))
    assert "not for us" in await refuse(issuer, keys, sign_unnamed(issuer, aud="other"))


async def test_of_several_keys_a_token_has_to_name_its_own(issuer: Issuer, keys: IssuerKeys) -> None:
    text = sign_unnamed(issuer)
    issuer.keys["second"] = MAKERS["ES256"]()
    assert "no such key" in await refuse(issuer, keys, text)


async def test_a_new_key_without_a_name(issuer: Issuer, fetch: Fetch) -> None:
    now = 1000.0
    keys = IssuerKeys(Discovery(issuer.url, fetch), fetch, clock=lambda: now)
    old = sign_unnamed(issuer)
    assert await verify(old, issuer.url, AUDIENCE, keys)
    issuer.rotate("first")
    new = sign_unnamed(issuer)
    for _ in range(3):
        with pytest.raises(IdentityRefused):
            await verify(new, issuer.url, AUDIENCE, keys)
    assert issuer.asked.count("/keys") == 1, "anybody can make up a token"
    now += AGAIN_SECONDS
    assert await verify(new, issuer.url, AUDIENCE, keys)
    with pytest.raises(IdentityRefused):
        await verify(old, issuer.url, AUDIENCE, keys)
    assert issuer.asked.count("/keys") == 2


async def test_what_was_signed_is_what_is_read(issuer: Issuer, keys: IssuerKeys) -> None:
    head, _, signature = issuer.token().split(".")
    text = f"{head}.{segment(issuer.claims(sub='somebody else'))}.{signature}"
    assert "InvalidSignature" in await refuse(issuer, keys, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b",
        "a.b.c.d.e",
        "é.b.c",
        "!.!.!",
        f"{segment([])}.{segment({})}.",
        f"{segment({})}.{segment('x')}.",
        # a decoder that recurses would have the request crash
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.",
        "e30." + base64.urlsafe_b64encode(b'{"a":' * 2000).decode() + ".",
        # readers differ in which of two counts
        base64.urlsafe_b64encode(b'{"alg":"ES256","alg":"none"}').rstrip(b"=").decode() + ".e30.",
        f"{segment({'pad': 'x' * LONGEST})}.{segment({})}.",
    ],
)
async def test_what_is_no_token(issuer: Issuer, keys: IssuerKeys, text: str) -> None:
    assert read_unverified(text) is None
    assert await refuse(issuer, keys, text) == "it is no token"
