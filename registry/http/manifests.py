"""Manifests ready to send: their headers, and the choice of one that a client accepts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy

from registry.http.instant import Instant, head_of
from storage.digest import Digest
from storage.repositories.rows import StoredManifest

MOST_WARNINGS = 8
LONGEST_WARNING = 240


@dataclass(frozen=True, slots=True)
class Prepared:
    """A manifest with the headers that it is always sent with."""

    media_type: str
    digest: Digest
    body: bytes
    headers: CIMultiDictProxy[str]
    instant: Instant
    """The whole answer, for requests that it suits."""

    @classmethod
    def of(cls, manifest: StoredManifest) -> Prepared:
        headers = {
            "Content-Type": manifest.media_type,
            "Content-Length": str(len(manifest.body)),
            "Docker-Content-Digest": manifest.digest,
            "ETag": f'"{manifest.digest}"',
            "X-Content-Type-Options": "nosniff",
        }
        instant = Instant(head_of(headers.items()), manifest.body)
        return cls(manifest.media_type, manifest.digest, manifest.body, CIMultiDictProxy(CIMultiDict(headers)), instant)

    def with_warnings(self, texts: Sequence[str]) -> Prepared:
        """A copy with `texts` as Warning headers; clients may show the first few."""
        return self._warning([warning(text) for text in texts[:MOST_WARNINGS]])

    def with_stale(self, reason: str | None) -> Prepared:
        """A copy with Warning headers that it may be outdated, if there is a `reason`."""
        return self._warning(stale_warnings(reason)) if reason is not None else self

    def _warning(self, values: Sequence[str]) -> Prepared:
        headers = self.headers.copy()
        for value in values:
            headers.add("Warning", value)
        return replace(self, headers=CIMultiDictProxy(headers), instant=Instant(head_of(headers.items()), self.body))


@dataclass(frozen=True, slots=True)
class Variants:
    """What a tag points to until `expires` (UNIX seconds): one image in all its forms, the preferred one first."""

    prepared: tuple[Prepared, ...]
    media_types: tuple[str, ...]
    expires: float

    @classmethod
    def of(cls, prepared: Sequence[Prepared], expires: float) -> Variants:
        return cls(tuple(prepared), tuple(each.media_type for each in prepared), expires)

    @classmethod
    def pushed(cls, prepared: Prepared) -> Variants:
        """A pushed manifest has one form, and the tag keeps it until the next push."""
        return cls((prepared,), (prepared.media_type,), math.inf)

    @property
    def size(self) -> int:
        return sum(len(each.body) for each in self.prepared)

    def choose(self, accept: str) -> Prepared:
        """The form for a client that sent this Accept header."""
        if len(self.prepared) == 1:
            return self.prepared[0]
        return self.prepared[choose_accepted(accept, self.media_types)]


@lru_cache(maxsize=512)
def choose_accepted(header: str, offered: tuple[str, ...]) -> int:
    """The index of the first media type in `offered` that an Accept header admits (RFC 9110, 12.5.1), or else 0.

    Clients list the types that they can read in no useful order, so the server's preference decides. A client that
    names none of ours is better served with something than with an error that nobody shows.
    """
    ranges = [_media_range(text) for text in header.split(",") if text.strip()]
    admitted = {name for name, quality in ranges if quality > 0}
    refused = {name for name, quality in ranges if quality <= 0}
    for index, media_type in enumerate(offered):
        names = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        if media_type not in refused and any(name in admitted for name in names):
            return index
    return 0


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = text.split(";")
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return name.strip().lower(), quality


def stale_warnings(reason: str) -> list[str]:
    """The Warning headers of an answer that may be outdated, with the reason if there is one (RFC 7234, 5.5)."""
    stale = [warning("Response is Stale", 110)]
    return [*stale, warning(f"Revalidation Failed: {reason}", 111)] if reason else stale


def warning(text: str, code: int = 299) -> str:
    """`text` as the value of a Warning header (RFC 7234, section 5.5; the distribution specification's "Warnings")."""
    plain = "".join(character if " " <= character <= "~" else "?" for character in text[:LONGEST_WARNING])
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'{code} - "{escaped}"'
