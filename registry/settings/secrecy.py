"""Environment variables that may hold a secret, which no program that this process starts is to have.

The solver and the workers parse what others send, and need none of them. Only the environment of the C library,
which programs inherit, loses them: `os.environ` keeps them for this process, for boto3's credentials and for settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|PRIVATE|VAULT|API_?KEY|_KEYS?$", re.IGNORECASE)
_VALUE = re.compile(r"://[^/\s]*@")
"""A URL with a user, and so likely with a password: of a database, or of a proxy."""
_READ_BY_LIBRARIES = frozenset({"PGPASSWORD"})
"""libpq reads it from the C library's environment, at every connection."""


def is_secret(name: str, value: str) -> bool:
    """Whether a variable may hold a secret. Too many are taken for such, rather than too few."""
    return name not in _READ_BY_LIBRARIES and (bool(_NAME.search(name)) or bool(_VALUE.search(value)))


def hidden_variables() -> Mapping[str, str]:
    """Those that another process of this server has to be given."""
    return {name: value for name, value in os.environ.items() if is_secret(name, value)}


def hide_secrets(more: Mapping[str, str] | None = None) -> None:
    """Let no program inherit them from now on; `more` are those that this process was given, if it inherited none."""
    os.environ.update(more or {})
    for name in hidden_variables():
        # not `del os.environ[name]`, which would hide it from this process, too
        os.unsetenv(name)
