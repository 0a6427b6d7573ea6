"""Tokens of the token endpoint: ours are taken, and nothing that merely looks like one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth.changing import AccessData
from auth.tokens.api_tokens import write_api_token
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.registry_tokens import ISSUER, LONGEST, TYPE, RegistryTokens
from auth.tokens.signing_keys import SigningKey, SigningKeys, thumbprint
from storage.database.engine import Database
from storage.events.changes import Changes

SERVICE = "registry.example.org"
SCOPES = {"repository:team/app": frozenset({"pull", "push"}), "registry:catalog": frozenset({"*"})}
ALICE = Credential("id-of-alice", 3, "id-of-token")


@pytest.fixture
async def data(migrated_sqlite: str, tmp_path: Path) -> AsyncIterator[AccessData]:
    """On one kind of database: nothing here is read from it but the key."""
    database = Database.open(migrated_sqlite)
    yield AccessData(database, Changes(tmp_path / "changes"))
    await database.close()


@pytest.fixture
async def keys(data: AccessData) -> SigningKeys:
    return SigningKeys(data)


@pytest.fixture
async def tokens(keys: SigningKeys) -> RegistryTokens:
    return RegistryTokens(keys, SERVICE, 300)


def claims(**changes: Any) -> dict[str, Any]:
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
        "account": "id-of-alice",
        "epoch": 0,
        "access_token": "",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def part(document: Mapping[str, Any] | bytes) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Forger:
    """Writes tokens with the real key, so that nothing but what is changed is wrong with them."""

    key: SigningKey

    def sign(self, header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes) -> str:
        assert self.key.private
        text = f"{part(header)}.{part(payload)}"
        return f"{text}.{part(self.key.private.sign(text.encode()))}"

    def header(self, **changes: Any) -> dict[str, Any]:
        found = {"alg": "EdDSA", "kid": self.key.kid, "typ": TYPE, **changes}
        return {name: value for name, value in found.items() if value is not None}


@pytest.fixture
async def forger(keys: SigningKeys) -> Forger:
    return Forger(await keys.current())


async def test_what_is_issued_is_taken_and_says_the_same(tokens: RegistryTokens) -> None:
    issued = await tokens.issue(ALICE, "alice", SCOPES)
    found = await tokens.verify(issued.text)
    assert (found.account, found.epoch, found.access_token) == ("id-of-alice", 3, "id-of-token")
    assert found.scopes == SCOPES
    assert issued.seconds == 300
    assert issued.at + 300 <= found.expires <= issued.at + 310
    assert issued.text not in repr(issued)


async def test_anybody_reads_in_a_token_what_the_specification_names(tokens: RegistryTokens) -> None:
    issued = await tokens.issue(ALICE, "alice", SCOPES)
    found = jwt.decode(issued.text, options={"verify_signature": False})
    assert (found["iss"], found["aud"]) == (ISSUER, SERVICE)
    assert found["sub"] == "alice"
    assert found["access"] == [
        {"type": "repository", "name": "team/app", "actions": ["pull", "push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]


async def test_the_forger_s_own_token_is_taken(tokens: RegistryTokens, forger: Forger) -> None:
    """Else the tests below would prove nothing."""
    assert (await tokens.verify(forger.sign(forger.header(), claims()))).account == "id-of-alice"


def hs256(forger: Forger, secret: bytes) -> str:
    text = f"{part(forger.header(alg='HS256'))}.{part(claims())}"
    return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def forged_jwk(forger: Forger) -> str:
    """CVE-2025-24976 (distribution): the key is in the header, and only its name is one that is trusted."""
    own = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": part(own.public_key().public_bytes_raw()), "kid": forger.key.kid}
    text = f"{part(forger.header(jwk=jwk))}.{part(claims())}"
    return f"{text}.{part(own.sign(text.encode()))}"


def other_key(forger: Forger) -> str:
    own = Ed25519PrivateKey.generate()
    text = f"{part(forger.header())}.{part(claims())}"
    return f"{text}.{part(own.sign(text.encode()))}"


def unknown_kid(forger: Forger) -> str:
    own = Ed25519PrivateKey.generate()
    text = f"{part(forger.header(kid=thumbprint(own.public_key())))}.{part(claims())}"
    return f"{text}.{part(own.sign(text.encode()))}"


def es256(forger: Forger) -> str:
    headers = {"kid": forger.key.kid, "typ": TYPE}
    return jwt.encode(claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=headers)


def public_key(forger: Forger, encoding: Encoding, form: PublicFormat) -> bytes:
    return forger.key.public.public_bytes(encoding, form)


def changed(forger: Forger, place: int) -> str:
    header, payload, signature = forger.sign(forger.header(), claims()).split(".")
    parts = [header, payload, signature]
    parts[place] = parts[place][:-2] + ("AA" if not parts[place].endswith("AA") else "BB")
    return ".".join(parts)


NOW = time.time()
FORGERIES: dict[str, Callable[[Forger], str]] = {
    "CVE-2025-24976: a jwk in the header, with a trusted kid": forged_jwk,
    "a jwk beside the right signature": lambda it: it.sign(it.header(jwk={"kty": "OKP"}), claims()),
    "jku": lambda it: it.sign(it.header(jku="https://evil.example/keys"), claims()),
    "x5c": lambda it: it.sign(it.header(x5c=["AA=="]), claims()),
    "x5u": lambda it: it.sign(it.header(x5u="https://evil.example/cert"), claims()),
    "CVE-2025-59420: an unknown crit": lambda it: it.sign(it.header(crit=["exp2"], exp2=1), claims()),
    "an empty crit": lambda it: it.sign(it.header(crit=[]), claims()),
    "b64 switched off": lambda it: it.sign(it.header(b64=False, crit=["b64"]), claims()),
    "zip": lambda it: it.sign(it.header(zip="DEF"), claims()),
    "alg none": lambda it: f"{part(it.header(alg='none'))}.{part(claims())}.",
    "alg None": lambda it: f"{part(it.header(alg='None'))}.{part(claims())}.",
    "alg none with a signature": lambda it: it.sign(it.header(alg="none"), claims()),
    "no alg": lambda it: it.sign(it.header(alg=None), claims()),
    "alg is a list": lambda it: it.sign(it.header(alg=["EdDSA"]), claims()),
    "HS256 with the public key as PEM": lambda it: hs256(
        it, public_key(it, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the public key's bytes": lambda it: hs256(it, public_key(it, Encoding.Raw, PublicFormat.Raw)),
    "HS256 without a key": lambda it: hs256(it, b""),
    "ES256": es256,
    "another key": other_key,
    "CVE-2026-27962: an unknown kid": unknown_kid,
    "no kid": lambda it: it.sign(it.header(kid=None), claims()),
    "kid is a path": lambda it: it.sign(it.header(kid="../../etc/passwd"), claims()),
    "kid is a number": lambda it: it.sign(it.header(kid=1), claims()),
    "no typ": lambda it: it.sign(it.header(typ=None), claims()),
    "typ JWT": lambda it: it.sign(it.header(typ="JWT"), claims()),
    "a token of the REST API": lambda it: write_api_token(it.key, "1", "team", {}, NOW, NOW + 300),
    "CVE-2026-44428: another service": lambda it: it.sign(it.header(), claims(aud="other.example.org")),
    "a list of services": lambda it: it.sign(it.header(), claims(aud=[SERVICE, "other.example.org"])),
    "no service": lambda it: it.sign(it.header(), claims(aud=None)),
    "another issuer": lambda it: it.sign(it.header(), claims(iss="evil")),
    "no issuer": lambda it: it.sign(it.header(), claims(iss=None)),
    "expired": lambda it: it.sign(it.header(), claims(exp=int(NOW) - 10)),
    "no expiry": lambda it: it.sign(it.header(), claims(exp=None)),
    "expires at a text": lambda it: it.sign(it.header(), claims(exp="never")),
    "expires at infinity": lambda it: it.sign(it.header(), claims(exp=float("inf"))),
    "not yet": lambda it: it.sign(it.header(), claims(nbf=int(NOW) + 86400)),
    "no nbf": lambda it: it.sign(it.header(), claims(nbf=None)),
    "issued tomorrow": lambda it: it.sign(it.header(), claims(iat=int(NOW) + 86400)),
    "no subject": lambda it: it.sign(it.header(), claims(sub=None)),
    "no access": lambda it: it.sign(it.header(), claims(access=None)),
    "access is a text": lambda it: it.sign(it.header(), claims(access="*")),
    "access has numbers": lambda it: it.sign(it.header(), claims(access=[1])),
    "no account": lambda it: it.sign(it.header(), claims(account=None)),
    "claims are a list": lambda it: it.sign(it.header(), b"[]"),
    "claims are no JSON": lambda it: it.sign(it.header(), b"\xff\xfe"),
    "a header that is no JSON": lambda it: it.sign(b"\xff", claims()),
    "a header that is a list": lambda it: it.sign(b"[]", claims()),
    "a header with 5,000 digits": lambda it: it.sign(b'{"alg":' + b"1" * 5000 + b"}", claims()),
    "a header with 3,000 brackets": lambda it: it.sign(b"[" * 3000, claims()),
    "another header's signature": lambda it: changed(it, 0),
    "other claims' signature": lambda it: changed(it, 1),
    "another signature": lambda it: changed(it, 2),
    "no signature": lambda it: it.sign(it.header(), claims()).rpartition(".")[0] + ".",
    "two parts": lambda it: it.sign(it.header(), claims()).rpartition(".")[0],
    "four parts": lambda it: it.sign(it.header(), claims()) + ".AA",
    "cut off": lambda it: it.sign(it.header(), claims())[:-10],
    "huge": lambda it: it.sign(it.header(), claims(more="x" * LONGEST)),
    "letters that are no ASCII": lambda it: it.sign(it.header(), claims()) + "é",
    "half a surrogate pair": lambda it: it.sign(it.header(), claims()) + "\udc80",
    "nothing": lambda it: "",
    "dots": lambda it: "..",
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_is_refused(tokens: RegistryTokens, forger: Forger, name: str) -> None:
    with pytest.raises(CredentialsInvalid) as caught:
        await tokens.verify(FORGERIES[name](forger))
    # a stranger is not told what was wrong
    assert str(caught.value) == str(CredentialsInvalid(""))


async def test_one_server_s_token_is_another_server_s_forgery(tokens: RegistryTokens, data: AccessData) -> None:
    """Two servers of one database that are different services."""
    other = RegistryTokens(SigningKeys(data), "other.example.org", 300)
    issued = await other.issue(ALICE, "alice", SCOPES)
    with pytest.raises(CredentialsInvalid):
        await tokens.verify(issued.text)
    assert (await other.verify(issued.text)).account == "id-of-alice"


async def test_a_clock_that_differs_a_little_is_no_matter(tokens: RegistryTokens, forger: Forger) -> None:
    now = int(time.time())
    for changes in ({"nbf": now + 3, "iat": now + 3}, {"exp": now - 3}):
        await tokens.verify(forger.sign(forger.header(), claims(**changes)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(text=st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True)))
async def test_no_text_is_taken_or_crashes(tokens: RegistryTokens, text: str) -> None:
    with pytest.raises(CredentialsInvalid):
        await tokens.verify(text)


async def test_the_largest_token_fits_into_a_header(tokens: RegistryTokens) -> None:
    name = "a" * 135
    scopes = {f"repository:{name}{number:03}": frozenset({"pull", "push", "delete"}) for number in range(24)}
    assert sum(len(each) + len(":pull,push,delete") for each in scopes) <= 4096
    issued = await tokens.issue(ALICE, "a" * 64, scopes)
    assert len(f"Bearer {issued.text}") < 8190
    assert (await tokens.verify(issued.text)).scopes == scopes
