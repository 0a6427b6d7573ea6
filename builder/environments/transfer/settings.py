"""Settings in archives of environments, which are read as if somebody set them now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from builder.environments.settings import SettingsOfEnvironments
from builder.errors import InputInvalid
from storage.errors import quote

log = structlog.get_logger(__name__)


def log_note(text: str) -> None:
    log.warning("an import leaves something out", reason=text)


def choose_settings(
    settings: SettingsOfEnvironments, exported: Mapping[str, Any], *, may_set: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """What to set of the settings that an environment had; `tell` gets a line about each that is left out."""
    wanted = {name: value for name, value in exported.items() if value is not None}
    if not may_set:
        if wanted:
            names = ", ".join(map(quote, sorted(wanted)))
            tell(f"the environment's settings are left out, which were {names}; set them if they should hold here")
        return {}
    found: dict[str, Any] = {}
    for name, value in wanted.items():
        try:
            found |= settings.read({name: value})
        except InputInvalid as error:
            tell(f"a setting of the environment is left out: {error}")
    return found
