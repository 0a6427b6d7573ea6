"""Addresses of issuers, and of hosts to which they refer, as settings have them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from storage.errors import quote
from storage.text import redact

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")


def check_issuer(text: str) -> str:
    """The URL of an issuer (OpenID Connect Discovery 1.0, section 3). Raises ValueError."""
    try:
        parts = urlsplit(text)
        usable = parts.hostname is not None and parts.port != 0
    except ValueError:
        raise ValueError(f"{quote(redact(text))} is not the address of an issuer") from None
    odd = parts.username is not None or re.search(r"[^!-~]|[?#\\]", text)
    if len(text) > 255 or not usable or odd or parts.scheme not in ("https", "http"):
        raise ValueError(f"{quote(redact(text))} is not the address of an issuer, such as https://gitlab.example.org")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{quote(text)}: an issuer's keys are fetched over https, except from this machine")
    return text


def name_of_issuer(issuer: str) -> str:
    """How the names of an issuer's workloads begin."""
    return issuer.partition("://")[2].rstrip("/") + "/"


def check_hosts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError."""
    for each in texts:
        if not _HOST.fullmatch(each):
            raise ValueError(f"{quote(redact(each))} is not a host, with or without a port")
    return texts
