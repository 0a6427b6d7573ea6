"""The shapes of settings of environments, of dry solves, differences and handles of images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.environments.settings import MOST_BUILDS, MOST_BYTES, MOST_DAYS, MOST_HOURS
from builder.policy.rules import MOST_DAYS as MOST_COOLDOWN
from registry.api.environments.schemas import BuildNumber
from registry.api.schemas import Name
from registry.contract import Empty, Shape

Texts = list[str]
Many = Annotated[list[Annotated[str, Field(max_length=1000, pattern=r"^[ -~]*$")]], Field(max_length=500)]
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
    base_image: str | None = None
    """One of those that the server allows (its settings base, allowed_bases)."""


class SettingLayers(Shape):
    """What each layer sets by itself."""

    all: Settings
    namespace: Settings
    environment: Settings


class Specified(Shape):
    """The query of conda-store's dry solve."""

    channel: Many | None = None
    channels: Many | None = None
    """Another name of the same."""
    conda: Many | None = None
    """Match specs."""
    pip: Many | None = None
    """Requirements of PyPI packages."""


class Solved(Shape):
    name: str
    version: str
    channel_id: int
    size: int
    """Bytes of its archive; 0 if the channel does not say."""


class Planned(Shape):
    """A package of a lock."""

    name: str
    version: str
    build: str
    subdir: str
    channel: str
    url: str
    sha256: str | None
    license: str | None
    size: int | None
    """Bytes of its archive."""


class Step(Shape):
    name: str
    before: Planned
    after: Planned


class PlatformDifference(Shape):
    added: list[Planned]
    removed: list[Planned]
    up: list[Step]
    """To a later version, or a later build of the same."""
    down: list[Step]
    other: list[Step]
    """The same version and build number in another build or with other content."""
    size: int
    """How many bytes of archives more, or less, there are."""
    download: int
    """Bytes of archives that are new."""


class Difference(Shape):
    build_id: int
    against: int | None
    """The build that it is compared with; null if there is none, and everything is added."""
    platforms: dict[str, PlatformDifference]


class Against(Shape):
    against: BuildNumber | Empty | None = None
    """A build of the same environment; without it, the last complete one before."""


class CachedParts(Shape):
    """What the server has already."""

    archives: int
    """Packages that need no download."""
    archives_size: int
    fragments: int
    """Packages whose part of a layer is made."""
    image: bool
    """Whether the whole image is made."""


class PlannedPlatform(Shape):
    packages: list[Planned]
    size: int


class Plan(Shape):
    """What a build of now would be."""

    lock: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Its key."""
    platforms: dict[str, PlannedPlatform]
    against: int | None
    """The current build of the environment."""
    difference: dict[str, PlatformDifference]
    cached: CachedParts


class NewPlan(Shape):
    specification: str
    """An environment file, a lock of conda-lock's or pixi's, an explicit list, or a manifest of pixi's."""
    namespace: Name | None = None
    """Whose rules hold; without it, one's primary one."""
    is_lockfile: bool | None = None
    environment_name: str | None = None
    """With whose current build it is compared, if the specification does not say it."""


class NewImage(Shape):
    specification: str
    """An environment file, a lock of conda-lock's or pixi's, an explicit list, or a manifest of pixi's."""
    is_lockfile: bool | None = None


class Image(Shape):
    handle: str
    """`spec.<hash>`: a name below that of all images on demand."""
    reference: str
    """For docker pull: what the handle means now, or for a lock exactly that."""
    pinned: str
    """The same with the tag of the lock that it means at the moment."""
    lock: str
    digest: str | None
    """Null until the image is built."""
