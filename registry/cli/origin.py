"""The address of a server, as people write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.cli.options import UsageError

if TYPE_CHECKING:
    from yarl import URL


def read_origin(server: str, *, insecure: bool) -> URL:
    """The server's address; a password goes over no network unencrypted. Raises UsageError."""
    from yarl import URL

    from storage.network.this_machine import is_this_machine

    try:
        given = URL(server if "://" in server else f"//{server}")
        here = is_this_machine(given.host or "")
        scheme = given.scheme or ("http" if here else "https")
        # as docker does, a name without a scheme that is this machine's is spoken to without TLS
        origin = URL.build(scheme=scheme, host=given.host or "", port=given.explicit_port)
    except ValueError:
        raise UsageError(f"{server} is no server such as registry.example.org or localhost:5000") from None
    if not given.host or scheme not in ("http", "https") or given.path not in ("", "/") or given.user:
        raise UsageError(f"{server} is no server such as registry.example.org or localhost:5000")
    if scheme == "http" and not (here or insecure):
        raise UsageError(f"{server} would get the password unencrypted; if that has to be, add --insecure")
    return origin
