"""What a solve depends on, as the key that its lock is kept under, and until when it answers."""

from __future__ import annotations

from collections.abc import Mapping

from builder.canonical import key_of
from builder.spec import EnvironmentSpec
from builder.virtual_packages import DEFAULT_GLIBC, virtual_packages

RESOLUTION_FORMAT = 1
"""Part of every resolution's key: raise it when the same inputs have to be solved anew."""


def resolution_key(spec: EnvironmentSpec, glibc: Mapping[str, str], channel_alias: str) -> str:
    """The key of what `spec` is solved to: the spec, where its channels are, and what the machine of the image has.

    `glibc` has the version by platform where it is known.
    """
    machines = {
        platform: virtual_packages(platform, glibc.get(platform, DEFAULT_GLIBC), spec.virtual_packages)
        for platform in spec.platforms
    }
    return key_of(
        "resolution",
        {
            "format": RESOLUTION_FORMAT,
            "spec": spec.key,
            "channel_alias": channel_alias.rstrip("/"),
            "machines": machines,
        },
    )
