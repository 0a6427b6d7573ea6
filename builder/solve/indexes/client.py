"""rattler's HTTP client for the solver process, whose only way out is the guarding proxy.

It lacks the parts of rattler's standard client that talk to S3 and Google's storage: their libraries fetch logins from
a cloud's metadata service, past any proxy, for whatever address a channel names. It reads the proxy from its process's
environment, which exempts no address, and logins from one file in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rattler.networking import (
    AddHeadersMiddleware,
    AuthenticationMiddleware,
    Client,
    OciMiddleware,
    RetryMiddleware,
)

from builder.channels.channel import Credential, Credentials
from builder.channels.logins import KINDS, Logins

_RETRIES = 2
_PROXY = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_IN_THE_WAY = ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "REQUEST_METHOD")
"""The last one makes the client ignore HTTP_PROXY, as in a CGI program."""


def make_client(proxy: str, credentials: Credentials, logins: Logins, directory: Path) -> Client:
    """Make the client. This changes the process's environment."""
    for name in _IN_THE_WAY:
        os.unsetenv(name)
    for name in _PROXY:
        os.putenv(name, proxy)
    os.putenv("RATTLER_AUTH_FILE", _write_unnamed(_choose_by_host(credentials, logins)))
    # logins for the account's own tools must not serve whoever asks for a channel
    os.putenv("NETRC", os.devnull)
    os.putenv("HOME", str(directory))
    by_path = [AddHeadersMiddleware(_choose_by_path(credentials, logins))] if logins.held else []
    return Client(
        [RetryMiddleware(_RETRIES), *by_path, AuthenticationMiddleware(), OciMiddleware()], user_agent="condery"
    )


def _choose_by_host(credentials: Credentials, logins: Logins) -> dict[str, Any]:
    """What rattler itself shows to a host, at whatever path: the file's logins, but none where a namespace has its own.

    A namespace's conda tokens and its logins for `oci://` are for whole hosts.
    """
    theirs = dict(credentials.by_host)
    for host in logins.endpoints:
        theirs = {pattern: each for pattern, each in theirs.items() if not _is_of(pattern, host)}
    for each in logins.held:
        if each.form == "conda-token" or each.address.startswith("oci:"):
            host = urlsplit(each.address).hostname or ""
            theirs[host] = Credential(KINDS[each.form], each.secret, each.username)
    return {host: each.to_json() for host, each in theirs.items()}


def _is_of(pattern: str, host: str) -> bool:
    return pattern == host or (pattern.startswith("*.") and (host == pattern[2:] or host.endswith(pattern[1:])))


def _choose_by_path(credentials: Credentials, logins: Logins) -> Callable[[str, str], dict[str, str] | None]:
    """The headers for a host and a path, for hosts at which a namespace has credentials of its own.

    rattler does not say the port and scheme; the guarding proxy lets it connect to the right ones alone.
    """
    addresses = [urlsplit(each.address) for each in logins.held]
    bases = {(each.hostname, f"{each.scheme}://{each.netloc}") for each in addresses if each.scheme != "oci"}

    def choose(host: str, path: str) -> dict[str, str] | None:
        found: Credential | None = None
        for own, base in bases:
            if own == host.lower().rstrip("."):
                found = logins.find(base + path) or credentials.for_url(base + path)
                break
        if found is None or found.kind == "CondaToken":
            return None
        return found.authorize("")[1]

    return choose


def _write_unnamed(document: dict[str, Any]) -> str:
    """Write a file that is on no disk, and return its path for this process."""
    descriptor = os.memfd_create("logins")
    os.write(descriptor, json.dumps(document).encode())
    return f"/proc/self/fd/{descriptor}"
