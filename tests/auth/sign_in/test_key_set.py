"""JWK sets: what is taken from one, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from jwt.algorithms import OKPAlgorithm

from auth.sign_in.key_set import MOST_KEYS, KeySetInvalid, parse_key_set
from tests.support.servers.issuer import MAKERS, to_jwk

EC_KEY = to_jwk(MAKERS["ES256"](), "ec")


def parse(*keys: object) -> dict[str, tuple[str, ...]]:
    """The algorithms of the usable ones."""
    parsed = parse_key_set(json.dumps({"keys": keys}).encode())
    return {kid: key.algorithms for kid, key in parsed.named.items()}


def test_the_type_of_a_key_says_what_it_is_for() -> None:
    found = parse(to_jwk(MAKERS["RS256"](), "rsa"), EC_KEY, to_jwk(MAKERS["EdDSA"](), "ed"))
    assert found == {
        "rsa": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        "ec": ("ES256",),
        "ed": ("EdDSA",),
    }
    assert parse(to_jwk(ec.generate_private_key(ec.SECP384R1()), "big")) == {"big": ("ES384",)}
    assert parse(to_jwk(MAKERS["RS256"](), "rsa", alg="RS256")) == {"rsa": ("RS256",)}


@pytest.mark.parametrize(
    "key",
    [
        "text",
        None,
        {},
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0", "alg": "HS256"},
        {**EC_KEY, "alg": "HS256"},
        {**EC_KEY, "alg": "none"},
        {**EC_KEY, "alg": ["ES256"]},
        {**EC_KEY, "use": "enc"},
        {**EC_KEY, "key_ops": ["sign"]},
        {**EC_KEY, "key_ops": 5},
        {**EC_KEY, "kid": None},
        {**EC_KEY, "kid": ""},
        {**EC_KEY, "kid": "x" * 256},
        {**EC_KEY, "x": "AAAA"},
        {**EC_KEY, "x": 5},
        {**EC_KEY, "crv": "P-999"},
        {**EC_KEY, "kty": "RSA"},
        {**EC_KEY, "kty": ["EC"]},
        to_jwk(ec.generate_private_key(ec.SECP256K1()), "bitcoin"),
        to_jwk(rsa.generate_private_key(65537, 1024), "short"),
        {"kty": "RSA", "kid": "huge", "n": "A" * 400_000, "e": "AQAB"},
        {"kty": "RSA", "kid": "zero", "n": "AA", "e": "AA"},
        {**to_jwk(MAKERS["RS256"](), "slow"), "e": to_jwk(MAKERS["RS256"](), "x")["n"]},
        {**OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True), "kid": "448"},
        {"kty": "OKP", "crv": "X25519", "kid": "exchange", "x": EC_KEY["x"]},
        {"kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "AAAA"},
    ],
)
def test_other_keys_are_left_out(key: Any) -> None:
    assert parse(key, {**EC_KEY, "kid": "good"}) == {"good": ("ES256",)}


def test_of_two_with_one_name_neither_counts() -> None:
    assert parse({**EC_KEY, "kid": "a"}, to_jwk(MAKERS["EdDSA"](), "a"), EC_KEY) == {"ec": ("ES256",)}


@pytest.mark.parametrize(
    ("keys", "has_only"),
    [
        ([], False),
        ([EC_KEY], True),
        ([{**EC_KEY, "kid": None}], True),
        ([{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}, EC_KEY, {**EC_KEY, "use": "enc"}], True),
        ([EC_KEY, {**EC_KEY, "kid": "other"}], False),
        ([EC_KEY, {**EC_KEY, "kid": None}], False),
        ([EC_KEY, EC_KEY], False),
    ],
)
def test_what_names_no_key_was_signed_with_the_only_one(keys: list[dict[str, Any]], has_only: bool) -> None:
    parsed = parse_key_set(json.dumps({"keys": keys}).encode())
    assert (parsed.find("") is not None) == has_only
    assert parsed.find("another") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        b"[" * 100_000,
        json.dumps({"keys": [{}] * (MOST_KEYS + 1)}).encode(),
    ],
)
def test_what_is_no_key_set(body: bytes) -> None:
    with pytest.raises(KeySetInvalid, match="is no JWK set"):
        parse_key_set(body)
