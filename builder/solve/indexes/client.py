"""rattler's HTTP client for the solver process, whose only way out is the guarding proxy.

It lacks the parts of rattler's standard client that talk to S3 and Google's storage: their libraries fetch logins from
a cloud's metadata service, past any proxy, for whatever address a channel names. It reads the proxy from its process's
environment, which exempts no address, and logins from one file.
"""

from __future__ import annotations

import os
from pathlib import Path

from rattler.networking import AuthenticationMiddleware, Client, OciMiddleware, RetryMiddleware

from storage.disk.files import atomic_write

_RETRIES = 2
_PROXY = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_IN_THE_WAY = ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "REQUEST_METHOD")
"""The last one makes the client ignore HTTP_PROXY, as in a CGI program."""


def make_client(proxy: str, credentials: str | None, directory: Path) -> Client:
    """Make the client.

    This changes the process's environment. Without `credentials`, an empty file in `directory` is used.
    """
    if credentials is None:
        none = directory / "no-credentials.json"
        if not none.exists():
            with atomic_write(none) as file:
                file.write(b"{}")
        credentials = str(none)
    for name in _IN_THE_WAY:
        os.unsetenv(name)
    for name in _PROXY:
        os.putenv(name, proxy)
    os.putenv("RATTLER_AUTH_FILE", credentials)
    # logins for the account's own tools must not serve whoever asks for a channel
    os.putenv("NETRC", os.devnull)
    os.putenv("HOME", str(directory))
    return Client([RetryMiddleware(_RETRIES), AuthenticationMiddleware(), OciMiddleware()], user_agent="condery")
