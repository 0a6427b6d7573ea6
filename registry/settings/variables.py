"""Settings from environment variables. Importing pydantic-settings takes as long as the rest of a command."""

from __future__ import annotations

from typing import Any

from pydantic import create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from registry.settings.model import SECTIONS, VARIABLE_PREFIX, split


def read_variables() -> dict[str, Any]:
    """The values that variables give, by name of the setting; raises ValueError for invalid text."""
    return _VariablesSource(_flat_settings(), env_prefix=VARIABLE_PREFIX)()


def _flat_settings() -> type[BaseSettings]:
    """All fields side by side, for pydantic-settings' source to look up; never instantiated."""
    fields: dict[str, Any] = {
        name: (field.annotation, field) for model in SECTIONS.values() for name, field in model.model_fields.items()
    }
    return create_model("FlatSettings", __base__=BaseSettings, **fields)


class _VariablesSource(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return split(value)
