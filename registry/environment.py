"""Settings from environment variables, by pydantic-settings, whose import takes as long as all else of a command."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from builder.settings import BuilderSettings
from registry.http_settings import HttpSettings
from registry.mirror_settings import MirrorSettings
from registry.settings import ENVIRONMENT_PREFIX, LogSettings, split
from storage.settings import StorageSettings


def values() -> dict[str, Any]:
    """By setting name, the values that variables give; raises ValueError for text that cannot be read."""
    return _EnvironmentSource(_FlatSettings, env_prefix=ENVIRONMENT_PREFIX)()


class _FlatSettings(BuilderSettings, HttpSettings, StorageSettings, MirrorSettings, LogSettings, BaseSettings):
    """All fields side by side, for pydantic-settings' source to look up; never instantiated."""

    model_config = ConfigDict(extra="forbid", frozen=True)  # type: ignore[assignment] # BaseSettings' own type has more keys


class _EnvironmentSource(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return split(value)
