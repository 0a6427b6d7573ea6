"""Certificates signed by a test's own authority."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    @cached_property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate).serial_number

    def encrypted_key(self, password: bytes) -> bytes:
        return pem(serialization.load_pem_private_key(self.key, None), password)  # type: ignore[arg-type] # made below


@dataclass(frozen=True)
class Authority:
    key: Key = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @cached_property
    def certificate(self) -> bytes:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = _builder("an authority of a test", self.key).add_extension(x509.BasicConstraints(True, None), True)
        signed = builder.add_extension(usage, True).sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def issue(self, key: Key | None = None) -> Pair:
        """A certificate for localhost and 127.0.0.1, followed by the authority's own."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        authority = x509.load_pem_x509_certificate(self.certificate)
        signed = (
            _builder("localhost", key, authority.subject)
            .add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
            .sign(self.key, hashes.SHA256())
        )
        return Pair(signed.public_bytes(serialization.Encoding.PEM) + self.certificate, pem(key))

    def write(self, path: Path) -> Path:
        path.write_bytes(self.certificate)
        return path


def pem(key: Key, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _builder(name: str, key: Key, issuer: x509.Name | None = None) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(tz=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
