"""Environment variables of commands that ask a running server."""

from __future__ import annotations

import os

from registry.settings.model import VARIABLE_PREFIX

SERVER = f"{VARIABLE_PREFIX}SERVER"
TOKEN = f"{VARIABLE_PREFIX}TOKEN"


def server_variable() -> str | None:
    """The server that commands ask, unless an option names another; None if they work on the local store."""
    return os.environ.get(SERVER) or None


def token_variable() -> str | None:
    """The access token for that server, for whoever has no login."""
    return os.environ.get(TOKEN) or None
