"""All settings in one frozen model, and the documentation of each.

A setting has one flat name: `fresh_for` is `--fresh-for` on the command line, `CONDERY_FRESH_FOR` in the environment
and `fresh_for` in the TOML file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from auth.settings import AccessSettings
from auth.sign_in.settings import SignInSettings
from auth.sign_in.workload_settings import WorkloadSettings
from builder.environments.directories.settings import DirectorySettings
from builder.environments.watching.settings import WatchSettings
from builder.policy.settings import PolicySettings
from builder.settings import BuilderSettings
from registry.http.settings import HttpSettings
from registry.logs.settings import LogSettings
from registry.mirror.settings import MirrorSettings
from registry.settings.directories import default_data_directory
from registry.webhooks.settings import WebhookSettings
from storage.quotas.limits import Limits
from storage.section import AS_SIZE, Secret, Section, hide_secrets
from storage.settings import StorageSettings
from storage.upkeep_settings import UpkeepSettings
from storage.vault.settings import VaultSettings

VARIABLE_PREFIX = "CONDERY_"

_TIME = re.compile(r"(?:Maximum (?:number of )?)?(?P<unit>seconds|minutes|hours|days)\b|Maximum time\b", re.IGNORECASE)

_DEFAULT_RULES = {"data_directory": "~/.local/share/condery", "workers": "one per CPU"}

SECTIONS: Mapping[str, type[Section]] = {
    "http": HttpSettings,
    "access": AccessSettings,
    "sign_in": SignInSettings,
    "workload": WorkloadSettings,
    "webhook": WebhookSettings,
    "builder": BuilderSettings,
    "policy": PolicySettings,
    "directories": DirectorySettings,
    "watching": WatchSettings,
    "storage": StorageSettings,
    "vault": VaultSettings,
    "mirror": MirrorSettings,
    "upkeep": UpkeepSettings,
    "log": LogSettings,
}
"""The model of each part of the program; the names of fields are unique across them."""


class Settings(BaseModel):
    """Every setting, in the model of its part."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    http: HttpSettings = Field(default_factory=HttpSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    sign_in: SignInSettings = Field(default_factory=SignInSettings)
    workload: WorkloadSettings = Field(default_factory=WorkloadSettings)
    webhook: WebhookSettings = Field(default_factory=WebhookSettings)
    builder: BuilderSettings = Field(default_factory=BuilderSettings)
    policy: PolicySettings = Field(default_factory=PolicySettings)
    directories: DirectorySettings = Field(default_factory=DirectorySettings)
    watching: WatchSettings = Field(default_factory=WatchSettings)
    storage: StorageSettings = Field(default_factory=lambda: StorageSettings(data_directory=default_data_directory()))
    vault: VaultSettings = Field(default_factory=VaultSettings)
    mirror: MirrorSettings = Field(default_factory=MirrorSettings)
    upkeep: UpkeepSettings = Field(default_factory=UpkeepSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @model_validator(mode="after")
    def _name_the_proxy(self) -> Self:
        if self.sign_in.proxy_user_header is not None and not self.http.trusted_proxies:
            raise ValueError("proxy_user_header: set trusted_proxies to the addresses of the proxy that sends it")
        if self.sign_in.oidc_issuer is not None and self.http.public_url is None:
            raise ValueError("oidc_issuer: set public_url, to which the provider sends people back")
        return self

    @property
    def data_directory(self) -> Path:
        return self.storage.data_directory

    @property
    def limits(self) -> Limits:
        """The limits on repositories and on on-demand content."""
        return replace(self.upkeep.limits, root=self.builder.root)


@dataclass(frozen=True)
class Setting:
    """The documentation of one setting: its names, type, default and purpose."""

    section: str
    name: str
    field: FieldInfo

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def no_flag(self) -> str:
        """The flag that switches a true|false setting off."""
        return "--no-" + self.flag.removeprefix("--")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    @property
    def description(self) -> str:
        return self.field.description or ""

    @property
    def is_list(self) -> bool:
        return get_origin(self.field.annotation) is tuple

    @property
    def is_flag(self) -> bool:
        return self.field.annotation is bool

    @property
    def kind(self) -> str:
        """The type in a word or two: `text`, `number`, `size`, `path`, `a|b`, `list`, `true|false`."""
        return "size" if AS_SIZE in self.field.metadata else _kind(self.field.annotation)

    @property
    def unit(self) -> str | None:
        """What a number counts, if it is a time; its description begins with that."""
        found = _TIME.match(self.description) if self.kind == "number" else None
        return (found["unit"] or "seconds").lower() if found else None

    @property
    def is_secret(self) -> bool:
        """Whether the value may hold a secret."""
        return Secret.of(self.field) is not None

    @property
    def has_flag(self) -> bool:
        """Whether it can be set on a command line, which every user of the machine can read."""
        secret = Secret.of(self.field)
        return secret is None or not secret.is_whole

    def show(self, value: object) -> str:
        """A value as a person would set it, with its secrets hidden."""
        return format_value(hide_secrets(self.field, value))

    @property
    def default(self) -> str:
        """The default as text; a default that depends on the machine is described by its rule."""
        return _DEFAULT_RULES.get(self.name) or format_value(self.field.default)


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    inner = [each for each in get_args(annotation) if each is not type(None)]
    if inner:
        return _kind(inner[0])
    return {bool: "true|false", int: "number", float: "number", Path: "path"}.get(annotation, "text")


def format_value(value: object) -> str:
    """A value as a person would set it; lists are comma-separated, or JSON if they hold commas, and None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        texts = [format_value(each) for each in value]
        return orjson.dumps(texts).decode() if any("," in text for text in texts) else ",".join(texts)
    return str(value)


def split(value: object) -> object:
    """Make a list from comma-separated or JSON text, or from a list of such texts; other values stay as they are."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return orjson.loads(value)
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list):
        return [part for each in value for part in (split(each) if isinstance(each, str) else [each])]  # type: ignore[attr-defined] # text splits into a list
    return value


def all_settings() -> Iterator[Setting]:
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            yield Setting(section, name, field)
