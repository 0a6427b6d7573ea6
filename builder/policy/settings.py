"""What may be in environments anywhere: settings that `registry.settings` reads."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from builder.policy.rules import MOST_DAYS, SETTINGS, Rules, UnknownLicenses
from storage.section import Section, Size

_NO_RULES = ("deny_list", "deny_list_refresh")


class PolicySettings(Section):
    """What environments may hold. A namespace's policy adds rules and takes none away; docs/policy.md explains both."""

    model_config = ConfigDict(allow_inf_nan=False)

    denied_packages: tuple[str, ...] = Field(
        (),
        description="Packages that are not taken, such as 'openssl <3.0.7 # CVE-2022-3602': a match spec, and after # "
        "the reason, which whoever asks is told. Other versions are solved for where there are some.",
    )
    required_packages: tuple[str, ...] = Field(
        (), description="Packages that every environment has to hold, such as 'ca-certificates'; others are refused."
    )
    allowed_licenses: tuple[str, ...] = Field(
        (),
        description="Licences (SPDX identifiers, in which * matches anything) that packages may have; when empty, all "
        "that are not denied.",
    )
    denied_licenses: tuple[str, ...] = Field(
        (), description="Licences that packages may not have, such as AGPL-*; of a choice (OR) one side is enough."
    )
    unknown_licenses: UnknownLicenses = Field(
        "refuse",
        description="Whether packages whose licence is missing or unknown are taken, where there are rules for "
        "licences.",
    )
    cooldown_days: float = Field(
        0,
        ge=0,
        le=MOST_DAYS,
        description="Days that a package has to be in its channel before it is taken; 0 takes it at once.",
    )
    cooldown_exempt: tuple[str, ...] = Field(
        (), description="Packages that are taken at any age, such as ca-certificates or team-*."
    )
    allowed_platforms: tuple[str, ...] = Field(
        (), description="Conda platforms that images are made for; when empty, all."
    )
    max_packages: int = Field(0, ge=0, description="Maximum number of packages in an environment; 0 is no limit.")
    max_packages_size: Size = Field(
        0, ge=0, description="Maximum size of all downloaded packages of an environment; 0 is no limit."
    )
    deny_list: str | None = Field(
        None,
        description="File or URL (http or https) of further packages that are not taken, one a line as in "
        "denied_packages, or JSON; nothing is built while it was never read.",
    )
    deny_list_refresh: float = Field(3600, ge=1, description="Seconds after which the deny list is read again.")

    @field_validator(
        *("denied_packages", "required_packages", "allowed_licenses", "denied_licenses", "cooldown_exempt"),
        "allowed_platforms",
    )
    @classmethod
    def _are_rules(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        assert info.field_name is not None
        try:
            Rules.of_document({info.field_name: value}, "", "https://conda.example.org")
        except ValueError as error:
            raise ValueError(str(error).removeprefix(f"{info.field_name}: ")) from None
        return value

    @field_validator("deny_list")
    @classmethod
    def _is_place(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and not value.startswith(("http://", "https://")):
            raise ValueError("must be a file, or an address that begins with https:// or http://")
        return value

    def make_rules(self, alias: str) -> Rules:
        """All but the deny list; `alias` is where channels are found by name."""
        written: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.model_dump(exclude=set(_NO_RULES)).items()
            if value
        }
        if not (self.allowed_licenses or self.denied_licenses):
            del written["unknown_licenses"]
        return Rules.of_document(written, source=SETTINGS, alias=alias)
