"""What can be set for environments: for all of them, for those of a namespace, and for one.

Rules are those of policies (`builder.policy.rules`). Each layer has its own and every layer's have to hold, together
with the server's and the namespace's policy, so a layer never allows more. Of everything else the nearest layer counts,
except for limits, of which the least does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from builder.channels.policy import ChannelPolicy
from builder.environments.inputs.channels import resolve_channel
from builder.environments.inputs.environment_file import read_match_spec
from builder.environments.inputs.fields import describe, need_list, need_text
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.pip_part import read_requirement
from builder.errors import BuilderError, InputInvalid
from builder.names.requirement import merge_requirements, read_name
from builder.names.spec import EnvironmentSpec, PackageItem, merge_items
from builder.platforms import OCI_PLATFORMS
from builder.policy.rules import RULES, Rules
from storage.environments.settings import EnvironmentSettings, SettingLayer
from storage.errors import quote
from storage.suggestions import did_you_mean, find_near
from storage.text import redact

MOST_ENTRIES = 1000
"""In one list."""
MOST_DAYS = 36_500
MOST_HOURS = 24 * MOST_DAYS
MOST_BUILDS = 1_000_000
MOST_BYTES = 1 << 60


@dataclass(frozen=True)
class SettingValues:
    """What is set, of one layer or of all together; None where nothing is. `docs/environment-settings.md` explains."""

    allowed_channels: tuple[str, ...] | None = None
    denied_packages: tuple[Any, ...] | None = None
    required_packages: tuple[str, ...] | None = None
    allowed_licenses: tuple[str, ...] | None = None
    denied_licenses: tuple[str, ...] | None = None
    unknown_licenses: str | None = None
    cooldown_days: float | None = None
    cooldown_exempt: tuple[str, ...] | None = None
    allowed_platforms: tuple[str, ...] | None = None
    max_packages: int | None = None
    max_packages_size: int | None = None

    default_channels: tuple[str, ...] | None = None
    """Appended to what a file names, in place of the server's."""
    default_platforms: tuple[str, ...] | None = None
    default_packages: tuple[str, ...] | None = None
    """For an environment that asks for none."""
    included_packages: tuple[str, ...] | None = None
    """For every environment that does not ask for a package of this name."""
    pypi_default_packages: tuple[str, ...] | None = None
    pypi_included_packages: tuple[str, ...] | None = None
    pypi_required_packages: tuple[str, ...] | None = None
    pypi_denied_packages: tuple[str, ...] | None = None
    max_unfinished_builds: int | None = None
    """Queued and running ones of a namespace, or of the environment."""
    quota: int | None = None
    """Bytes of the packages of all builds of a namespace, or of the environment."""
    kept_builds: int | None = None
    kept_days: float | None = None
    solve_every_hours: float | None = None
    base_image: str | None = None
    """What images stand on, in place of the server's base."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Of a stored document, or of several put together."""
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
            if name in known
        }
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """All fields, null where nothing is set."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def adapt(self, settings: InputSettings) -> InputSettings:
        """What reading a file has to know."""
        return replace(
            settings,
            channels=self.default_channels or settings.channels,
            platforms=self.default_platforms or settings.platforms,
        )

    def complete(self, spec: EnvironmentSpec, settings: InputSettings) -> EnvironmentSpec:
        """The spec with the packages that are added to what somebody asks for. A day's spec stays as it was."""
        asked = {item.name for item in spec.items}
        added = [] if spec.items else _read_items(self.default_packages, settings)
        added += [item for item in _read_items(self.included_packages, settings) if item.name not in asked]
        spec = replace(spec, requirements=self._complete_requirements(spec.requirements))
        if not added:
            return spec
        channels = [*spec.channels, *(item.channel for item in added if item.channel)]
        return replace(spec, items=merge_items([*spec.items, *added]), channels=tuple(dict.fromkeys(channels)))

    def _complete_requirements(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        names = set(map(read_name, asked))
        added = [*((self.pypi_default_packages or ()) if not asked else ())]
        added += [each for each in self.pypi_included_packages or () if read_name(each) not in names]
        return merge_requirements([*asked, *added]) if added else asked


FIELDS = tuple(each.name for each in fields(SettingValues))


@dataclass(frozen=True)
class SettingsFound:
    """What holds for an environment, by layer and all together."""

    layers: Sequence[SettingLayer] = ()

    @property
    def values(self) -> SettingValues:
        merged: dict[str, Any] = {}
        for layer in self.layers:
            for name, value in layer.document.items():
                merged[name] = _COMBINE[name](merged[name], value) if name in merged and name in _COMBINE else value
        return SettingValues.of(merged)

    def limit_of_namespace(self, name: str) -> int | None:
        """The least that the layers of all environments and of the namespace set."""
        return min((each.document[name] for each in self.layers if not each.environment and each.document.get(name)),
                   default=None)  # fmt: skip

    def limit_of_environment(self, name: str) -> int | None:
        return next((each.document[name] for each in self.layers if each.environment and each.document.get(name)), None)


@dataclass(frozen=True)
class SettingsOfEnvironments:
    """Finds what holds, and reads what somebody wants to set."""

    store: EnvironmentSettings
    channels: ChannelPolicy
    inputs: InputSettings
    bases: Sequence[str] = ()
    """Those that may be chosen, of which the first is the server's own."""

    @property
    def inputs_without_name(self) -> InputSettings:
        """For what becomes no environment."""
        return replace(self.inputs, needs_name=False)

    async def find(self, namespace: str = "", environment: str = "") -> SettingsFound:
        return SettingsFound(await self.store.list_layers(namespace, environment))

    def read(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """What to store of the fields that somebody sent; null takes one away. Raises InputInvalid."""
        return {name: self._read(name, value) for name, value in document.items()}

    def _read(self, name: str, value: Any) -> Any:
        if name not in FIELDS:
            raise InputInvalid(quote(name), f"there is no such setting{did_you_mean(_find_meant(name))}")
        if value is None:
            return None
        if name in RULES:
            return self._read_rule(name, value)
        return _READERS[name](self, value, name)

    def _read_rule(self, name: str, value: Any) -> Any:
        try:
            Rules.of_document({name: value}, "", self.channels.alias)
        except ValueError as error:
            raise InputInvalid(name, str(error).removeprefix(f"{name}: ")) from None
        return value

    def _read_channels(self, value: Any, name: str) -> list[str]:
        found: list[str] = []
        for index, each in enumerate(need_list(value, name, MOST_ENTRIES)):
            place = f"{name}[{index}]"
            for channel in resolve_channel(need_text(each, place).strip(), place, self.inputs):
                try:
                    self.channels.address_of(channel)
                except BuilderError as error:
                    raise InputInvalid(place, str(error)) from None
                found.append(channel)
        return list(dict.fromkeys(found))

    def _read_platforms(self, value: Any, name: str) -> list[str]:
        found = [need_text(each, f"{name}[{index}]") for index, each in enumerate(need_list(value, name, 50))]
        for index, each in enumerate(found):
            if each not in OCI_PLATFORMS:
                known, meant = ", ".join(OCI_PLATFORMS), did_you_mean(find_near(each, OCI_PLATFORMS))
                raise InputInvalid(f"{name}[{index}]", f"{quote(each)} is no platform; there are {known}{meant}")
        return sorted(set(found))

    def _read_packages(self, value: Any, name: str) -> list[str]:
        found = [need_text(each, f"{name}[{index}]").strip() for index, each in enumerate(need_list(value, name, 1000))]
        for index, text in enumerate(found):
            item = read_match_spec(text, f"{name}[{index}]", self.inputs)
            if item.channel is not None:
                self._read_channels([item.channel], f"{name}[{index}]")
        return found

    def _read_base(self, value: Any, name: str) -> str:
        base = need_text(value, name)
        if base not in self.bases:
            allowed = ", ".join(map(redact, self.bases)) or "none"
            raise InputInvalid(
                name,
                f"{quote(redact(base))} is no base image that this server allows (its settings base, allowed_bases); "
                f"choose one of: {allowed}",
            )
        return base

    def find_base(self, values: SettingValues) -> str:
        """What specs call the base that is set; empty for the server's own."""
        chosen = values.base_image or ""
        return "" if chosen in self.bases[:1] else chosen

    def _read_requirements(self, value: Any, name: str) -> list[str]:
        return [
            read_requirement(need_text(each, f"{name}[{index}]").strip(), f"{name}[{index}]")
            for index, each in enumerate(need_list(value, name, MOST_ENTRIES))
        ]


def _find_meant(name: str) -> list[str]:
    """Also where somebody writes conda-store's name of a setting."""
    plain = name.removeprefix("conda_")
    return [plain] if plain in FIELDS else find_near(name, FIELDS)


def _read_items(texts: Sequence[str] | None, settings: InputSettings) -> list[PackageItem]:
    return [read_match_spec(text, "", settings) for text in texts or ()]


def _read_whole(most: int) -> Callable[[SettingsOfEnvironments, Any, str], int]:
    def read(_settings: SettingsOfEnvironments, value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            shown = f", but it is {describe(value)}" if not isinstance(value, int) or isinstance(value, bool) else ""
            raise InputInvalid(name, f"it must be a whole number from 1 to {most}, or null for none{shown}")
        return value

    return read


def _read_number(most: int, least: float) -> Callable[[SettingsOfEnvironments, Any, str], float]:
    def read(_settings: SettingsOfEnvironments, value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise InputInvalid(name, f"it must be a number from {least:g} to {most}, or null for none")
        return value

    return read


_READERS: Mapping[str, Callable[[SettingsOfEnvironments, Any, str], Any]] = {
    "default_channels": SettingsOfEnvironments._read_channels,
    "default_platforms": SettingsOfEnvironments._read_platforms,
    "default_packages": SettingsOfEnvironments._read_packages,
    "included_packages": SettingsOfEnvironments._read_packages,
    "pypi_default_packages": SettingsOfEnvironments._read_requirements,
    "pypi_included_packages": SettingsOfEnvironments._read_requirements,
    "pypi_required_packages": SettingsOfEnvironments._read_requirements,
    "pypi_denied_packages": SettingsOfEnvironments._read_requirements,
    "max_unfinished_builds": _read_whole(MOST_BUILDS),
    "quota": _read_whole(MOST_BYTES),
    "kept_builds": _read_whole(MOST_BUILDS),
    "kept_days": _read_number(MOST_DAYS, 0.01),
    "solve_every_hours": _read_number(MOST_HOURS, 1),
    "base_image": SettingsOfEnvironments._read_base,
}
"""What each setting that is no rule is read by."""


def _join(held: list[Any], more: list[Any]) -> list[Any]:
    return [*held, *(each for each in more if each not in held)]


def _take_least(held: Any, more: Any) -> Any:
    """Of limits that are set: of those of rules, 0 is none."""
    return min(filter(None, (held, more)), default=0)


_COMBINE: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("denied_packages", "required_packages", "denied_licenses", "pypi_denied_packages"), _join),
    **dict.fromkeys(("max_packages", "max_packages_size", "max_unfinished_builds", "quota"), _take_least),
    "cooldown_days": max,
    "allowed_platforms": lambda held, more: [each for each in more if each in held] if held and more else held or more,
}
"""How what two layers set shows as one. Others are those of the nearer layer."""
