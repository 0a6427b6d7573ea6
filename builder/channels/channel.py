"""Channels: from what people write to addresses, and the credentials that some channels need.

Credentials come from one file (in the format of rattler's credentials.json) and from nowhere else. An address with a
user, a password or a `/t/<token>/` is refused, because addresses are written into locks, labels and logs.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

from builder.errors import ChannelUnavailable, LoginsFileUnusable
from storage.text import Sent, hide, redact

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_PORT = re.compile(r":[^\]:]*$")
SCHEMES = ("http", "https", "file", "oci")


def strip_credentials(url: str) -> str:
    """Strip user, password and `/t/<token>` from `url`, so that it may be stored."""
    parts = urlsplit(url)
    path = parts.path if parts.scheme == "file" else re.sub(r"^/t/[^/]+(?=/|$)", "", parts.path)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path))


def check_folder(channel: str) -> None:
    """Raises ValueError for a folder of this machine that is not written as one: it would be a name below the alias."""
    if "://" in channel or "/" not in channel or channel.startswith("/"):
        return
    if (folder := Path(channel)).is_dir():
        raise ValueError(f"{channel!r} is a directory here, and not the name of a channel: {folder.resolve().as_uri()}")


def resolve_address(channel: str, alias: str) -> str:
    """Return the URL, ending in `/`, of a channel given by name, URL or absolute path. Raises ChannelUnavailable.

    `alias` is the URL under which channels are found by name.
    """
    if "://" in channel:
        parts = urlsplit(channel)
        if parts.scheme not in SCHEMES:
            raise ChannelUnavailable(redact(channel), f"its scheme is not one of {', '.join(SCHEMES)}")
        if parts.scheme != "file" and not parts.hostname:
            raise ChannelUnavailable(redact(channel), "the address has no host")
        if strip_credentials(channel) != channel:
            raise ChannelUnavailable(
                redact(channel),
                "an address must not contain a user, password or token; put these into the credentials file",
            )
        if parts.scheme == "oci" and _PORT.search(parts.netloc):
            # rattler leaves the port out, and would show a login for it to another server of that host
            raise ChannelUnavailable(channel, "oci:// channels are read at port 443 alone: leave the port out")
        return channel.rstrip("/") + "/"
    if channel.startswith("/"):
        return f"file://{quote(channel.rstrip('/'))}/"
    if not _NAME.fullmatch(channel):
        raise ChannelUnavailable(channel, "it is neither a channel name nor an address (https://, file:///, oci://)")
    return f"{alias.rstrip('/')}/{channel}/"


def check_form(channel: str) -> str:
    """`channel` as given, which is a name or an address. Raises ValueError."""
    try:
        resolve_address(strip_credentials(channel), "https://conda.example.org")
    except ChannelUnavailable as error:
        folder = "; a directory is given by its whole path" if channel.startswith(".") else ""
        raise ValueError(f"{redact(channel)!r}: {error.reason}{folder}") from None
    return channel


@dataclass(frozen=True)
class Credential:
    """A credential for one host. `kind` is BasicHTTP, BearerToken or CondaToken, as in the file."""

    kind: str
    secret: str = field(repr=False)
    username: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        if self.kind == "BasicHTTP":
            return {self.kind: {"username": self.username, "password": self.secret}}
        return {self.kind: self.secret}

    def authorize(self, url: str) -> tuple[str, dict[str, str]]:
        """Return the address and the headers for a request to `url`.

        A CondaToken goes into the path: `/t/<token>/...`.
        """
        if self.kind == "CondaToken":
            parts = urlsplit(strip_credentials(url))
            return urlunsplit(parts._replace(path=f"/t/{self.secret}{parts.path}")), {}
        if self.kind == "BearerToken":
            return url, {"Authorization": f"Bearer {self.secret}"}
        pair = base64.b64encode(f"{self.username}:{self.secret}".encode()).decode()
        return url, {"Authorization": f"Basic {pair}"}


@dataclass(frozen=True)
class Credentials:
    """Credentials by host name (without port) or `*.domain`. The most specific one wins, as in rattler."""

    by_host: Mapping[str, Credential] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read a file in rattler's format; None gives no credentials. Raises LoginsFileUnusable."""
        if path is None:
            return cls()
        try:
            document = json.loads(path.read_bytes())
        except OSError as error:
            raise LoginsFileUnusable(str(path), error.strerror or "it cannot be read") from None
        except ValueError:
            raise LoginsFileUnusable(str(path), "it is not JSON") from None
        if not isinstance(document, dict):
            raise LoginsFileUnusable(str(path), "it must be an object of host names")
        return cls({host: _read_credential(path, host, entry) for host, entry in document.items()})

    def for_url(self, url: str) -> Credential | None:
        host = urlsplit(url).hostname or ""
        if host in self.by_host:
            return self.by_host[host]
        domain = host
        while domain:
            if found := self.by_host.get(f"*.{domain}"):
                return found
            domain = domain.partition(".")[2]
        return None

    def redact(self, text: str) -> str:
        """Remove all known secrets, in whatever form, and credentials in addresses, from `text`."""
        return redact(hide(text, self._sent))

    @cached_property
    def _sent(self) -> tuple[Sent, ...]:
        return tuple(Sent(each.secret, each.username) for each in self.by_host.values())


def _read_credential(path: Path, host: str, entry: Any) -> Credential:
    match entry:
        case {"BasicHTTP": {"username": str(username), "password": str(password)}}:
            return Credential("BasicHTTP", password, username)
        case {"BearerToken": str(token)}:
            return Credential("BearerToken", token)
        case {"CondaToken": str(token)}:
            return Credential("CondaToken", token)
    raise LoginsFileUnusable(
        str(path),
        f'{host} must have one of {{"BasicHTTP": {{"username": ..., "password": ...}}}}, '
        '{"BearerToken": ...} or {"CondaToken": ...}',
    )
