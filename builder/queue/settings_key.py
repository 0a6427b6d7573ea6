"""Which of the settings decide whether and how a build ends, as one key.

A failure is remembered under it, and a build is joined by those who have the same: what failed on one base may succeed
on another.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from builder.canonical import make_key
from builder.settings import BuilderSettings

_OF_NO_BUILD = frozenset(
    {
        # how long what ended is used
        "fresh_for",
        "stale_for",
        "failure_memory",
        "transient_failure_memory",
        "repodata_refresh",
        "search_refresh",
        # who may ask, and what runs at a time; machines of one cluster may differ in these
        "builds_per_caller",
        "builds_at_most",
        "anonymous_builds_at_most",
        "builds_per_minute",
        "concurrent_builds",
        "concurrent_archives",
        "downloads",
        "long_solves",
        "repodata_channels",
        "repodata_disk",
        "workers",
        # its content counts
        "credentials",
    }
)


def make_settings_key(settings: BuilderSettings) -> str:
    """From all settings but those that no build depends on, the file of logins, and the C library of the host base."""
    document = settings.model_dump(mode="json", exclude=set(_OF_NO_BUILD))
    library = os.confstr("CS_GNU_LIBC_VERSION") if settings.base == "host" and not settings.glibc else ""
    return make_key("settings", [document, _digest_logins(settings.credentials), library])


def _digest_logins(path: Path | None) -> str:
    """Empty for a file that cannot be read. Slow to make, so that what is stored does not serve to guess a password."""
    try:
        content = path.read_bytes() if path else b""
    except OSError:
        return ""
    return hashlib.scrypt(content, salt=b"condery", n=1 << 14, r=8, p=1, dklen=32).hex() if content else ""
