"""A file of logins in the form of docker's config.json, which other programs may read and write, too."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from registry.cli.options import UsageError
from storage import strict_json
from storage.disk.files import sync_directory
from storage.errors import JsonInvalid

OWNER_ALONE = 0o600
LARGEST = 4 << 20
LOCK_SECONDS = 10.0
"""How long another program may hold the file; it does so for milliseconds."""


def own_file() -> Path:
    """The file of `condery login`."""
    return Path.home() / ".config" / "condery" / "auth.json"


def docker_file() -> Path:
    return Path.home() / ".docker" / "config.json"


class LoginFile:
    """Raises UsageError if what is there is no such file, or cannot be read or written.

    A sign-in may take an hour, in which others change the file. So it is read anew for each change, under a lock that
    every condery takes.
    """

    def __init__(self, path: Path) -> None:
        # what a link leads to is replaced, not the link; one to itself stays, and cannot be read
        self.path = Path(os.path.realpath(path))
        self._document = _read(self.path)

    @property
    def helper(self) -> str | None:
        """The program that docker asks for logins instead of this file."""
        found = self._document.get("credsStore")
        return found if isinstance(found, str) and found else None

    def find_secret(self, host: str) -> str | None:
        """The password or token that is kept for `host`."""
        return _secret_of(self._document, host)

    def check_writable(self) -> None:
        """Check this before a token is made that is to be kept."""
        with self._held(), self._new_file():
            pass

    def keep(self, host: str, name: str, secret: str) -> None:
        with self._held():
            self._document["auths"][host] = {"auth": base64.b64encode(f"{name}:{secret}".encode()).decode()}
            self._write()

    def forget(self, host: str, secret: str) -> None:
        """Remove the login of `host`, unless there is another `secret` by now."""
        with self._held():
            if _secret_of(self._document, host) == secret:
                del self._document["auths"][host]
                self._write()

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Read the file anew, and keep other conderys from it while the block runs."""
        with _saying(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _lock(self.path.with_name(f"{self.path.name}.lock")):
                self._document = _read(self.path)
                yield

    def _write(self) -> None:
        """Replace the file at once: a crash leaves the old content or the new."""
        with self._new_file() as (new, file):
            file.write(json.dumps(self._document, indent="\t").encode())
            file.flush()
            os.fsync(file.fileno())
            os.replace(new, self.path)
        sync_directory(self.path.parent)

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[tuple[str, IO[bytes]]]:
        """A file beside this one, readable by its owner alone; it is removed unless it has been renamed."""
        new = f"{self.path}.{secrets.token_hex(8)}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ALONE)
        with open(descriptor, "wb") as file:
            try:
                yield new, file
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(new)


@contextlib.contextmanager
def _saying(path: Path) -> Iterator[None]:
    """Errors of the operating system become UsageError, which names the file."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be read and written: {error.strerror or error}") from None


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock until the block ends. Its file stays: whoever removed it could remove another's. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, OWNER_ALONE)
    try:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UsageError(f"another program holds {path}; end it and try again") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    with _saying(path):
        data = _read_bytes(path)
    if data is None:
        return {"auths": {}}
    try:
        document = strict_json.parse(data)
    except JsonInvalid as error:
        raise UsageError(f"{path} is no JSON document; mend it or name another file: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.setdefault("auths", {}), dict):
        raise UsageError(f"{path} is no file of logins, such as docker's config.json; name another")
    return document


def _read_bytes(path: Path) -> bytes | None:
    """Nothing if there is no file. Raises OSError, UsageError."""
    try:
        # a pipe would make it wait for somebody who writes
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is no regular file; name another")
    with open(descriptor, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UsageError(f"{path} has more than {LARGEST} bytes, so it is no file of logins; name another")
    return data


def _secret_of(document: Mapping[str, Any], host: str) -> str | None:
    entry = document["auths"].get(host)
    encoded = entry.get("auth") if isinstance(entry, Mapping) else None
    try:
        return base64.b64decode(encoded or "", validate=True).decode().partition(":")[2] or None
    except (ValueError, TypeError):
        return None
