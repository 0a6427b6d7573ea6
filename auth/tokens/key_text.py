"""Keys that sign registry tokens, as texts (PEM), and their names.

Imported late (`auth.late`): nothing else of this package needs `cryptography`.
"""

from __future__ import annotations

import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)


def make_private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def write_private(private: Ed25519PrivateKey) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def write_public(public: Ed25519PublicKey) -> str:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_private(text: str) -> Ed25519PrivateKey:
    private = load_pem_private_key(text.encode(), None)
    assert isinstance(private, Ed25519PrivateKey), "only such keys are made"
    return private


def read_public(text: str) -> Ed25519PublicKey:
    public = load_pem_public_key(text.encode())
    assert isinstance(public, Ed25519PublicKey), "only such keys are made"
    return public


def thumbprint(public: Ed25519PublicKey) -> str:
    """RFC 7638, over the members that RFC 8037 names."""
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}
    return _base64url(hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
