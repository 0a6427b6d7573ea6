"""TLS with certificate files that may be replaced while the server runs.

Certificates are renewed every few weeks, and a restart would cut uploads. A new pair is loaded into a context of its
own, which new connections then use. So a pair that does not match, for instance because only one file is written yet,
never serves anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from registry.http.settings import HttpSettings
from storage.background import in_background
from storage.errors import ConderyError

log = structlog.get_logger(__name__)

WATCH_SECONDS = 5.0
"""How often the files are checked."""


class CertificateInvalid(ConderyError):
    """The certificate or its key cannot be used; `path` is the faulty file."""

    is_mistake = True

    def __init__(self, setting: str, path: Path, reason: str) -> None:
        super().__init__(f"{setting} {path}: {reason}")
        self.path = path
        self.reason = reason


class _KeyEncrypted(Exception):
    """There is nobody to ask for the password."""


Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """A certificate chain and its key, both PEM, and a server context with their current content."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises CertificateInvalid."""
        self._certificate = certificate
        self._key = key
        self._seen = self._stamp()
        self._current = self.read()
        self.context = self._current
        self.context.sni_callback = self._choose

    def read(self) -> ssl.SSLContext:
        """A context with the files' content; raises CertificateInvalid."""
        self._stamp()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_refuse)
        except _KeyEncrypted:
            raise CertificateInvalid(
                "tls_key", self._key, "the key is encrypted; give one without a password that only condery can read"
            ) from None
        except ssl.SSLError as error:
            raise self._invalid(error) from error
        return context

    def reload(self) -> bool:
        """Load the files if they have changed since they were last read; return whether they had.

        Raises CertificateInvalid and keeps the earlier pair; an invalid pair is tried once.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        self._current = self.read()
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called in every handshake, with a server name or without."""
        connection.context = self._current

    def _stamp(self) -> Stamp:
        """Differs if a file was replaced or written to; raises CertificateInvalid."""
        return (
            _stamp_of("tls_certificate", self._certificate),
            _stamp_of("tls_key", self._key),
        )

    def _invalid(self, error: ssl.SSLError) -> CertificateInvalid:
        """Find out which of the two files is wrong, since OpenSSL does not say."""
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            reason = f"the key does not match the certificate {self._certificate}"
            return CertificateInvalid("tls_key", self._key, reason)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self._certificate)
        except ssl.SSLError:
            return CertificateInvalid("tls_certificate", self._certificate, "it contains no PEM certificate")
        return CertificateInvalid("tls_key", self._key, f"it contains no usable PEM key ({error.reason})")


@contextlib.asynccontextmanager
async def tls_context(settings: HttpSettings) -> AsyncIterator[ssl.SSLContext | None]:
    """The context to listen with, kept up to date; None if TLS is not configured. Raises CertificateInvalid."""
    if settings.tls_certificate is None or settings.tls_key is None:
        yield None
        return
    certificates = Certificates(settings.tls_certificate, settings.tls_key)
    async with watching(certificates):
        yield certificates.context


@contextlib.asynccontextmanager
async def watching(certificates: Certificates, seconds: float = WATCH_SECONDS) -> AsyncIterator[None]:
    """Reload the files when they change while the block runs, and log it."""

    async def watch() -> None:
        told: str | None = None
        while True:
            await asyncio.sleep(seconds)
            try:
                if await asyncio.to_thread(certificates.reload):
                    log.info("certificate reloaded")
                    told = None
            except CertificateInvalid as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("certificate not reloaded, the old one stays in use", reason=told)

    async with in_background(watch()):
        yield


def _refuse() -> str:
    raise _KeyEncrypted


def _stamp_of(setting: str, path: Path) -> tuple[int, int, int]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except OSError as error:
        raise CertificateInvalid(setting, path, error.strerror or "it cannot be read") from error
    return status.st_ino, status.st_mtime_ns, status.st_size
