"""What is read from a file that people wrote: an `EnvironmentInput`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from builder.channels.index_policy import PYPI
from builder.channels.policy import ChannelPolicy
from builder.locks.lock import Lock
from builder.names.spec import DEFAULT_PREFIX, EnvironmentSpec


class InputKind(enum.StrEnum):
    ENVIRONMENT = "environment"
    CONDA_LOCK = "conda-lock"
    PIXI_LOCK = "pixi-lock"
    EXPLICIT = "explicit"
    PIXI_MANIFEST = "pixi-manifest"
    PYLOCK = "pylock"
    """A lock of wheels alone: their python is solved."""

    @property
    def is_lock(self) -> bool:
        """Whether it says exactly what is to be built, so that nothing is solved."""
        return self in (InputKind.CONDA_LOCK, InputKind.PIXI_LOCK, InputKind.EXPLICIT)


ANACONDA = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


class ChannelSettings(Protocol):
    """What of `BuilderSettings` matters here."""

    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def allowed_channels(self) -> tuple[str, ...]: ...
    @property
    def channel_alias(self) -> str: ...
    @property
    def platforms(self) -> tuple[str, ...]: ...
    @property
    def prefix(self) -> str: ...
    @property
    def pypi_indexes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class InputSettings:
    """What reading needs to know: what a file leaves open, and where channels are."""

    channels: tuple[str, ...] = ("conda-forge",)
    """Appended to a file's own unless it names `nodefaults`, and taken if it names none."""
    platforms: tuple[str, ...] = ("linux-64",)
    prefix: str = DEFAULT_PREFIX
    channel_alias: str = "https://conda.anaconda.org"
    needs_name: bool = True
    """Whether an environment file without a name is refused."""
    pypi_indexes: tuple[str, ...] = (PYPI,)
    """Asked for PyPI packages after a file's extra indexes."""
    named_channels: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("defaults", ANACONDA),
        ("pkgs/main", ANACONDA[:1]),
        ("pkgs/r", ANACONDA[1:]),
    )
    """Names that stand for channels elsewhere than below the alias, as conda has them."""
    local_channels: tuple[tuple[str, str], ...] = ()
    """The addresses of channels that the server's settings name as directories, ending in `/`, and their names there.
    Only of these a lock may name files."""

    @classmethod
    def of(cls, settings: ChannelSettings, *, needs_name: bool = True) -> InputSettings:
        """From the settings of the builder."""
        named = ChannelPolicy.of(settings.channels, settings.channel_alias, settings.allowed_channels, "none")
        return cls(
            settings.channels,
            settings.platforms,
            settings.prefix,
            settings.channel_alias,
            needs_name=needs_name,
            local_channels=tuple((url, name) for url, name in named.list_named().items() if url.startswith("file:")),
            pypi_indexes=settings.pypi_indexes,
        )


@dataclass(frozen=True)
class EnvironmentInput:
    """One environment as a file says it. Nothing of it is checked against what the server allows."""

    kind: InputKind
    document: Mapping[str, Any]
    """What the REST API shows as the specification, as JSON: that of an environment file in canonical form, with its
    `pip` part, or `{"lockfile": ...}`."""
    spec: EnvironmentSpec
    """What is to be solved. For a lock, it describes the lock, and has no items."""
    lock: Lock | None = None
    """Exactly what is to be built, for locks."""
    name: str | None = None
    description: str | None = None
    category: str | None = None
    pip: tuple[str, ...] = ()
    """Requirements of PyPI packages (PEP 508), in canonical form and as they were written; those of a lock are what it
    has."""
    pip_options: tuple[tuple[str, str], ...] = ()
    """Options with their values, such as `--index-url` and a URL without credentials."""
    extends: str | None = None
    """The environment whose lock this one builds on: `namespace/environment`."""
    warnings: tuple[str, ...] = ()
    """What is ignored or left out, a sentence each."""
