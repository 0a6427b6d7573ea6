"""Settings, read once from all sources: flags before variables before the settings file before defaults.

Only this room reads environment variables.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from registry.logs.settings import LogSettings
from registry.settings.directories import default_data_directory
from registry.settings.model import SECTIONS, VARIABLE_PREFIX, Setting, Settings, all_settings, format_value, split
from storage.errors import ConderyError
from storage.suggestions import did_you_mean, find_near

CONFIG_FILES = (Path("condery.toml"), Path("/etc/condery/condery.toml"))
"""Where to look for a settings file if none is named; the first that exists is read."""

NOT_SETTINGS = frozenset({"config", "debug", "require_clients", "server", "token"})
"""Variables with the prefix that are not settings: the file's path, tracebacks, the tests' switch, and the server that
commands ask (`registry.settings.client`)."""


class InvalidSettings(ConderyError):
    """A setting is unknown or has an invalid value; the text names the setting and where it was set."""

    is_mistake = True


@dataclass(frozen=True)
class LoadedSettings:
    settings: Settings
    origins: Mapping[str, str]
    """Where each setting that is not at its default was set: a flag, a variable, or a file."""
    file: Path | None = None
    """The settings file that was read."""

    def value(self, setting: Setting) -> object:
        return getattr(getattr(self.settings, setting.section), setting.name)

    @property
    def command_log(self) -> LogSettings:
        """For a command that ends by itself: it logs warnings alone, unless a level was set."""
        log = self.settings.log
        return log if "log_level" in self.origins else log.model_copy(update={"log_level": "warning"})


def load(flags: Mapping[str, object] | None = None, config: Path | None = None) -> LoadedSettings:
    """Read the settings: flags before variables before the settings file before defaults.

    `flags` maps names of settings to values; a list is a list or comma-separated text. Raises InvalidSettings.
    """
    file = config or _config_file()
    sources = [
        _from_flags(flags or {}),
        _from_variables(),
        _from_file(file),
    ]
    values: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    values["storage"]["data_directory"] = default_data_directory()
    origins: dict[str, str] = {}
    for setting in all_settings():
        for source in sources:
            if setting.name in source:
                values[setting.section][setting.name], origins[setting.name] = source[setting.name]
                break
    try:
        return LoadedSettings(Settings.model_validate(values), origins, file)
    except ValidationError as error:
        raise InvalidSettings("; ".join(_describe_problem(problem, origins) for problem in error.errors())) from error


def variables_of(settings: Settings) -> dict[str, str]:
    """Environment variables that give another process the same settings. They may hold secrets; a command line may not,
    since everybody on the machine can read it.
    """
    named = {setting.variable: setting for setting in all_settings()}
    inherited = {name: value for name, value in os.environ.items() if name not in named}
    values = {name: getattr(getattr(settings, each.section), each.name) for name, each in named.items()}
    return inherited | {name: format_value(value) for name, value in values.items() if value is not None}


def is_switched_on(name: str) -> bool:
    """Whether a variable that is not a setting is switched on."""
    return os.environ.get(VARIABLE_PREFIX + name.upper(), "").lower() in {"1", "true", "yes", "on"}


_Source = Mapping[str, tuple[object, str]]

_WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "path_type": "must be a path",
    "string_type": "must be text, in quotes",
}
"""What to say of pydantic's errors whose own texts speak of parsing and of classes, by their types."""


def _describe_problem(problem: Any, origins: Mapping[str, str]) -> str:
    """Say which setting is wrong, and how; a value that may hold a secret is not repeated.

    A check that quotes what it refuses, such as one entry of a list, has said enough; other texts get the value.
    """
    text = _WORDS.get(problem["type"]) or str(problem["msg"]).removeprefix("Value error, ")
    text = text.replace("Input should be a valid tuple", "must be a list").replace("Input should", "must")
    if len(problem["loc"]) <= 1:
        # about several settings together, which the text names
        return text
    name = str(problem["loc"][1])
    setting = _names()[name]
    text = _name_unit(setting, text)
    value = problem["input"]
    is_quoted = (setting.is_list and problem["type"] == "value_error") or (
        isinstance(value, str) and repr(value) in text
    )
    return f"{origins[name]}: {text}" + ("" if setting.is_secret or is_quoted else f", not {_quote(value)}")


def _name_unit(setting: Setting, text: str) -> str:
    """Say what the number counts, to whom has written 1h or 7d."""
    if text not in ("must be a number", "must be a whole number"):
        return text
    if setting.kind == "size":
        return "must be a size such as 500MB, 10GiB, or a number of bytes"
    return f"{text} of {setting.unit}" if setting.unit else text


def _quote(value: object) -> str:
    """As the settings file has it."""
    return format_value(value) if isinstance(value, bool) else repr(value)


def _names() -> dict[str, Setting]:
    return {setting.name: setting for setting in all_settings()}


def _from_flags(flags: Mapping[str, object]) -> _Source:
    settings = _names()
    return {
        name: (split(value) if settings[name].is_list else value, settings[name].flag)
        for name, value in flags.items()
        if value is not None and value != []
    }


def _from_variables() -> _Source:
    from registry.settings import variables

    settings = _names()
    for variable in os.environ:
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        if variable.startswith(VARIABLE_PREFIX) and name not in settings and name not in NOT_SETTINGS:
            _refuse_misspelt(variable, [setting.variable for setting in settings.values()])
    try:
        found = variables.read_variables()
    except ValueError as error:
        raise InvalidSettings(f"environment variables: {error}") from error
    return {
        name: (value, settings[name].variable)
        for name, value in found.items()
        # Kubernetes gives every pod <SERVICE>_PORT=tcp://... for each Service, and the Service is likely called
        # condery.
        if not (name == "port" and str(value).startswith("tcp://"))
    }


def _refuse_misspelt(variable: str, known: list[str]) -> None:
    """Refuse unknown variables that resemble a setting; others may belong to another program."""
    if near := find_near(variable, known, cutoff=0.85):
        raise InvalidSettings(f"{variable} is not a setting{did_you_mean(near)}")


def _from_file(path: Path | None) -> _Source:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidSettings(f"settings file {path}: {reason}") from error
    settings = _names()
    for name, value in document.items():
        if name not in settings:
            if isinstance(value, dict):
                raise InvalidSettings(
                    f"settings file {path}: [{name}] begins a table, and settings are in none: remove it"
                )
            hint = did_you_mean(find_near(name, settings)) or "; `condery settings show` lists them all"
            raise InvalidSettings(f"settings file {path}: {name} is not a setting{hint}")
    return {
        # an array has its entries apart already, and one may hold a comma
        name: (split(value) if settings[name].is_list and isinstance(value, str) else value, f"{path}: {name}")
        for name, value in document.items()
    }


def _config_file() -> Path | None:
    named = os.environ.get(VARIABLE_PREFIX + "CONFIG")
    if named:
        return Path(named)
    return next((path for path in CONFIG_FILES if path.is_file()), None)
