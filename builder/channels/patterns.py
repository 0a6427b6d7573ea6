"""Patterns of settings for the addresses of channels and indexes, in which `*` stands for anything."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import unquote, urlsplit

from builder.channels.channel import SCHEMES, strip_credentials
from storage.text import redact

Others = Literal["none", "public", "all"]
"""Which channels are allowed besides those in the settings: none, those at public addresses, or all, as for the command
line's user."""

ANY = "*"

WILD = re.compile(r"[*?\[]")
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


def check_pattern(text: str) -> str:
    """Check a pattern from the settings. Raises ValueError."""
    scheme, separator, _ = text.partition("://")
    if separator and scheme not in SCHEMES:
        raise ValueError(f"{redact(text)!r} starts with none of {', '.join(f'{each}://' for each in SCHEMES)}")
    if not text or strip_credentials(text) != text:
        raise ValueError(f"{redact(text)!r} is not a channel name or a URL without credentials")
    return text


def resolve_pattern(pattern: str, alias: str) -> str:
    """Expand a pattern to one of a URL that ends in `/`. Names are resolved below `alias`, like a channel's."""
    if pattern.startswith("/"):
        pattern = f"file://{pattern}"
    elif "://" not in pattern:
        pattern = f"{alias.rstrip('/')}/{pattern}"
    return pattern.rstrip("/") + "/"


def fits_pattern(url: str, pattern: str) -> bool:
    """Match part by part: the host's `*` must not match into the path, nor the other way round."""
    its, wanted = urlsplit(url), urlsplit(pattern)
    if its.scheme != wanted.scheme or _DOTS.search(unquote(its.path)):
        return False
    return fnmatchcase(its.netloc.lower(), wanted.netloc.lower()) and fnmatchcase(its.path, wanted.path)
