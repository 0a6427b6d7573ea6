"""rattler's HTTP client as the solver process uses it: it has no way out but the guarding proxy.

Of rattler's standard client this lacks what speaks to S3 and Google's storage: their own libraries fetch logins from a
cloud's metadata service, past any proxy, for whatever address a channel names. It takes the proxy from the environment
of its process, in which nothing is exempt, and logins from the one file.
"""

from __future__ import annotations

import os
from pathlib import Path

from rattler.networking import AuthenticationMiddleware, Client, OciMiddleware, RetryMiddleware

from storage.disk.files import atomic_write

_RETRIES = 2
_PROXY = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_IN_THE_WAY = ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "REQUEST_METHOD")
"""The last makes the client ignore HTTP_PROXY, as in a CGI program."""


def make_client(proxy: str, credentials: str | None, directory: Path) -> Client:
    """Changes the environment of this process; without `credentials` an empty file in `directory` has them."""
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
    # what the account has for its own tools is not for whoever asks for a channel
    os.putenv("NETRC", os.devnull)
    os.putenv("HOME", str(directory))
    return Client([RetryMiddleware(_RETRIES), AuthenticationMiddleware(), OciMiddleware()], user_agent="condery")
