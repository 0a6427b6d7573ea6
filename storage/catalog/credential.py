"""A credential of a namespace: for a channel, or for a registry that is mirrored."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

from storage.errors import CredentialUnfit
from storage.oci import DOCKER_HUB, DOCKER_HUB_NAMES, MIRROR_ROOT

Kind = Literal["channel", "registry"]
Form = Literal["basic", "bearer", "conda-token"]
"""How it is sent: as name and password, as a token in a header, or as `/t/TOKEN/` in the address."""
FORMS: tuple[Form, ...] = get_args(Form)

MOST_CHARACTERS = 512
"""Of an address, as its column has it."""
MOST_SECRET = 4096
LEAST_SECRET = 8
"""Characters of a secret: a shorter one is guessed, and hidden in messages where it is an ordinary word."""

_PORTS = {"http": 80, "https": 443, "oci": 443}
_HOST = re.compile(r"[a-z0-9]+(?:[.-]+[a-z0-9]+)*|\[[0-9a-f:.]+\]")
_PATH = re.compile(r"(?:/[A-Za-z0-9_~+@-][A-Za-z0-9._~+@-]*)*/?")
_REGISTRY = re.compile(r"[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)?")
_TOKEN = re.compile(r"[!-~]+")
_CONDA_TOKEN = re.compile(r"[A-Za-z0-9._~-]+")
_TOKEN_IN_PATH = re.compile(r"/t/[^/]+")


@dataclass(frozen=True)
class NamespaceCredential:
    """`address` is `scheme://host[:port]/path/` for a channel and all below it, or `host[:port][/repositories]`."""

    id: str
    """Another one each time that it is set: what was fetched with an earlier one does not count for it."""
    namespace: str
    kind: Kind
    address: str
    form: Form
    secret: str = field(repr=False)
    username: str = field(default="", repr=False)

    def covers(self, url: str) -> bool:
        """Whether it may be sent to `url`: the same scheme, host and port, and a path below its own."""
        parts = split_url(url)
        if parts is None:
            return False
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/".startswith(self.address)

    def covers_repository(self, registry: str, repository: str) -> bool:
        """Likewise for a repository of a registry."""
        return f"{registry}/{repository}/".startswith(f"{self.address}/")


def parse_address(text: str) -> tuple[Kind, str]:
    """What kind of address it is, and its one form. Raises CredentialUnfit, which repeats nothing of it."""
    if "://" not in text:
        host = text.lower().rstrip("/")
        if not _REGISTRY.fullmatch(host) or len(host) > MOST_CHARACTERS:
            raise CredentialUnfit(
                "the address is neither that of a channel, such as https://conda.example.org/team, nor a registry, "
                "such as ghcr.io or registry.example.org:5000/team"
            )
        name, slash, rest = host.partition("/")
        return "registry", f"{DOCKER_HUB if name in DOCKER_HUB_NAMES else name}{slash}{rest}"
    parts = split_url(text)
    if parts is None or not _PATH.fullmatch(parts.path) or _TOKEN_IN_PATH.match(parts.path) or len(text) > 500:
        raise CredentialUnfit(
            "the channel's address must be http, https or oci, a host, and a path of plain names: no user, token, "
            "query or dots"
        )
    return "channel", f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"


def split_url(text: str) -> SplitResult | None:
    """An address in its one form: lower case, no default port. None for one that a credential is never sent to."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    unsafe = parts.username is not None or parts.query or parts.fragment or "\\" in text or has_dots(parts.path)
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or unsafe:
        return None
    netloc = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return parts._replace(netloc=netloc)


def has_dots(path: str) -> bool:
    """Whether a server might take a part of the path for `.` or `..`."""
    return any(part.lower().replace("%2e", ".").replace("%2f", "/") in (".", "..") for part in path.split("/")) or (
        "%2f" in path.lower()
    )


def check(namespace: str, kind: Kind, address: str, form: Form, username: str, secret: str) -> None:
    """Raises CredentialUnfit, which never repeats the secret."""
    if (kind == "registry") != (namespace == MIRROR_ROOT):
        raise CredentialUnfit(
            f"registries are asked by mirrors alone, whose namespace is {MIRROR_ROOT}; the login for a base image is "
            "in the file of the setting credentials"
            if kind == "registry"
            else f"the namespace {MIRROR_ROOT} has no channels: give the registry's host, such as ghcr.io"
        )
    if kind == "registry" and form != "basic":
        raise CredentialUnfit("a registry takes a name and a password (or a token as password): give --username")
    whole = urlsplit(address).path in ("", "/")
    if (form == "conda-token" or address.startswith("oci:")) and not whole:
        raise CredentialUnfit("a conda token, or a login for oci://, is for a whole host: leave the path out")
    if address.startswith("oci:") and urlsplit(address).port is not None:
        raise CredentialUnfit("oci:// channels are read at port 443 alone: leave the port out")
    if not LEAST_SECRET <= len(secret) <= MOST_SECRET or not secret.isprintable():
        raise CredentialUnfit(f"the secret must have {LEAST_SECRET} to {MOST_SECRET} printable characters on one line")
    if form == "basic" and (not username or ":" in username or not username.isprintable()):
        raise CredentialUnfit("the user name must not be empty, and has no colon")
    if form == "bearer" and not _TOKEN.fullmatch(secret):
        raise CredentialUnfit("a bearer token has visible ASCII characters alone")
    if form == "conda-token" and not _CONDA_TOKEN.fullmatch(secret):
        raise CredentialUnfit("a conda token has letters, digits and . _ ~ - alone")
