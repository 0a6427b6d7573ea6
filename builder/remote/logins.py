"""Who somebody is in other registries."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import LoginsFileUnusable
from storage.oci import DOCKER_HUB, DOCKER_HUB_NAMES


@dataclass(frozen=True)
class Login:
    """A user at a registry. The password appears in no repr."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r})"


def read_logins(path: Path) -> dict[str, Login]:
    """Read logins by registry host from docker's config.json (`auths`) or rattler's credentials.json (`BasicHTTP`).

    Entries of other kinds, such as credential helpers, are ignored. Raises LoginsFileUnusable.
    """
    try:
        document = json.loads(path.read_bytes())
        entries = document["auths"] if isinstance(document.get("auths"), dict) else document
        found = {
            _normalize_host(name): _read_login(entry) for name, entry in entries.items() if isinstance(entry, dict)
        }
    except OSError as error:
        raise LoginsFileUnusable(str(path), error.strerror or "cannot be read") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LoginsFileUnusable(str(path), "is neither a docker config.json nor a rattler credentials.json") from None
    return {host: login for host, login in found.items() if login}


def _normalize_host(name: str) -> str:
    host = (urllib.parse.urlsplit(name).netloc if "://" in name else name).partition("/")[0]
    return DOCKER_HUB if host in DOCKER_HUB_NAMES else host


def _read_login(entry: Mapping[str, Any]) -> Login | None:
    if isinstance(plain := entry.get("BasicHTTP"), dict):
        return Login(plain["username"], plain["password"])
    if encoded := entry.get("auth"):
        username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        return Login(username, password)
    if "username" in entry and "password" in entry:
        return Login(entry["username"], entry["password"])
    return None
