"""Which other registries are mirrored, and how. Times are in seconds."""

from __future__ import annotations

from pydantic import Field, field_validator

from registry.mirror.names import check_host, check_registry
from storage.section import Section


class MirrorSettings(Section):
    """Other registries that are pulled through this one, as `mirror/HOST/NAME`, and how long copies are kept."""

    mirrors: tuple[str, ...] = Field(
        (), description="Registries (host or host:port) that are mirrored under mirror/; none when empty."
    )
    mirror_internal_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts (host or host:port) that mirrors may reach at addresses that are not public: registries "
        "in your own network, and hosts that they redirect to.",
    )
    mirror_fresh_for: float = Field(
        300, ge=0, description="Seconds for which a tag is answered from its copy before its registry is asked again."
    )
    mirror_keep: float = Field(
        2_592_000, ge=0, description="Seconds for which a copy is kept after its last pull; 0 keeps it for ever."
    )
    mirror_patience: float = Field(
        5,
        gt=0,
        description="Seconds that a registry may take to answer; after that its stale copy is served instead.",
    )
    mirror_stall_seconds: float = Field(
        30, gt=0, description="Seconds without a byte after which a connection to a registry is given up."
    )
    mirror_retry_after: float = Field(
        10, ge=0, description="Seconds for which a registry that failed is not asked for the same thing again."
    )

    @field_validator("mirrors")
    @classmethod
    def _are_registries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(check_registry, value)))

    @field_validator("mirror_internal_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(check_host, value)))
