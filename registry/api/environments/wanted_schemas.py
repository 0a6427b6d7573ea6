"""The shapes of settings of environments, of dry solves, differences and handles of images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.environments.settings import MOST_BUILDS, MOST_BYTES, MOST_DAYS, MOST_HOURS
from builder.policy.rules import MOST_DAYS as MOST_COOLDOWN
from registry.contract import Shape

Texts = list[str]
Count = Annotated[int, Field(ge=0, lt=1 << 60)]


class Denied(Shape):
    package: str
    versions: str = ""
    build: str = ""
    channel: str = ""
    reason: str = ""


class Settings(Shape):
    """What is set for environments; null where nothing is. A PUT changes the fields that it has."""

    allowed_channels: Texts | None = None
    """Patterns, one of which every channel has to match."""
    denied_packages: list[str | Denied] | None = None
    """Such as `openssl <3.0.7 # CVE-2022-3602`."""
    required_packages: Texts | None = None
    """What every environment has to hold."""
    allowed_licenses: Texts | None = None
    denied_licenses: Texts | None = None
    unknown_licenses: Literal["refuse", "take"] | None = None
    cooldown_days: Annotated[float, Field(ge=0, le=MOST_COOLDOWN)] | None = None
    """Days that a package has to be in its channel."""
    cooldown_exempt: Texts | None = None
    allowed_platforms: Texts | None = None
    max_packages: Count | None = None
    max_packages_size: Count | None = None
    default_channels: Texts | None = None
    """Added to the channels that a file names, in place of the server's."""
    default_platforms: Texts | None = None
    """For a file that names none."""
    default_packages: Texts | None = None
    """For an environment that asks for none."""
    included_packages: Texts | None = None
    """Added to what does not ask for them."""
    pypi_default_packages: Texts | None = None
    pypi_included_packages: Texts | None = None
    pypi_required_packages: Texts | None = None
    pypi_denied_packages: Texts | None = None
    max_unfinished_builds: Annotated[int, Field(ge=1, le=MOST_BUILDS)] | None = None
    """Builds that wait or run at a time."""
    quota: Annotated[int, Field(ge=1, le=MOST_BYTES)] | None = None
    """Bytes of the packages of all builds."""
    kept_builds: Annotated[int, Field(ge=1, le=MOST_BUILDS)] | None = None
    kept_days: Annotated[float, Field(gt=0, le=MOST_DAYS)] | None = None
    solve_every_hours: Annotated[float, Field(gt=0, le=MOST_HOURS)] | None = None


class SettingLayers(Shape):
    """What each layer sets by itself."""

    all: Settings
    namespace: Settings
    environment: Settings
