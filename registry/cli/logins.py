"""A file of logins in the form of docker's config.json, which other programs may read and write, too."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.cli.options import UsageError

OWNER_ALONE = 0o600


def own_file() -> Path:
    """The file of `condery login`."""
    return Path.home() / ".config" / "condery" / "auth.json"


def docker_file() -> Path:
    return Path.home() / ".docker" / "config.json"


class LoginFile:
    """Raises UsageError if what is there is no such file."""

    def __init__(self, path: Path) -> None:
        # what a link leads to is replaced, not the link
        self.path = path.resolve()
        self._document = _read(self.path)

    @property
    def helper(self) -> str | None:
        """The program that docker asks for logins instead of this file."""
        found = self._document.get("credsStore")
        return found if isinstance(found, str) and found else None

    def find_secret(self, host: str) -> str | None:
        """The password or token that is kept for `host`."""
        entry = self._document["auths"].get(host)
        encoded = entry.get("auth") if isinstance(entry, Mapping) else None
        try:
            return base64.b64decode(encoded or "", validate=True).decode().partition(":")[2] or None
        except (ValueError, TypeError):
            return None

    def keep(self, host: str, name: str, secret: str) -> None:
        self._document["auths"][host] = {"auth": base64.b64encode(f"{name}:{secret}".encode()).decode()}
        self._write()

    def forget(self, host: str) -> None:
        if self._document["auths"].pop(host, None) is not None:
            self._write()

    def _write(self) -> None:
        """Replace the file at once, readable by its owner alone from its first byte on."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ALONE), "w") as file:
            json.dump(self._document, file, indent="\t")
        new.replace(self.path)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"auths": {}}
    except ValueError:
        raise UsageError(f"{path} is no JSON document; mend it or name another file") from None
    if not isinstance(document, dict) or not isinstance(document.setdefault("auths", {}), dict):
        raise UsageError(f"{path} is no file of logins, such as docker's config.json; name another")
    return document
