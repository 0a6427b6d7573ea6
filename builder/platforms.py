"""What conda and OCI call a platform (image-spec, image-index.md; go's GOOS and GOARCH)."""

from __future__ import annotations

import platform as machine_facts
import struct
from collections.abc import Mapping
from types import MappingProxyType

OCI_PLATFORMS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "linux-32": {"os": "linux", "architecture": "386"},
        "linux-64": {"os": "linux", "architecture": "amd64"},
        "linux-aarch64": {"os": "linux", "architecture": "arm64"},
        "linux-armv6l": {"os": "linux", "architecture": "arm", "variant": "v6"},
        "linux-armv7l": {"os": "linux", "architecture": "arm", "variant": "v7"},
        "linux-loong64": {"os": "linux", "architecture": "loong64"},
        "linux-ppc64": {"os": "linux", "architecture": "ppc64"},
        "linux-ppc64le": {"os": "linux", "architecture": "ppc64le"},
        "linux-riscv64": {"os": "linux", "architecture": "riscv64"},
        "linux-s390x": {"os": "linux", "architecture": "s390x"},
    }
)
"""The platforms for which images can be made."""

WHEEL_MACHINES: Mapping[str, str] = MappingProxyType({"linux-64": "x86_64", "linux-aarch64": "aarch64"})
"""The machine in the tags of wheels, by the platforms for which they can be had."""

_DEFAULT_VARIANTS = {("amd64", "v1"): "", ("arm64", "v8"): "", ("arm", ""): "v7"}
"""Platforms with two spellings, mapped to the spelling in OCI_PLATFORMS, as in containerd's platforms package."""

_MACHINES = {
    "x86_64": "linux-64",
    "aarch64": "linux-aarch64",
    "armv6l": "linux-armv6l",
    "armv7l": "linux-armv7l",
    "i386": "linux-32",
    "i686": "linux-32",
    "loongarch64": "linux-loong64",
    "ppc64": "linux-ppc64",
    "ppc64le": "linux-ppc64le",
    "riscv64": "linux-riscv64",
    "s390x": "linux-s390x",
}
"""Maps `uname -m` to conda's platform."""


def oci_platform(platform: str) -> dict[str, str]:
    """Return `os`, `architecture` and perhaps `variant` of a conda platform.

    Raises ValueError if no image can be made for it.
    """
    try:
        return dict(OCI_PLATFORMS[platform])
    except KeyError:
        raise ValueError(
            f"no image can be made for platform {platform!r}; the platforms are {', '.join(sorted(OCI_PLATFORMS))}"
        ) from None


def conda_platform(platform: Mapping[str, object]) -> str | None:
    """Return the conda platform of an OCI platform or image config; None for attestations, or if conda has none."""
    architecture = str(platform.get("architecture", ""))
    variant = str(platform.get("variant") or "")
    wanted = {"os": platform.get("os"), "architecture": architecture}
    if variant := _DEFAULT_VARIANTS.get((architecture, variant), variant):
        wanted["variant"] = variant
    return next((name for name, known in OCI_PLATFORMS.items() if known == wanted), None)


def host_platform() -> str | None:
    """Return the conda platform that this process runs on, or None if conda has none."""
    if machine_facts.system() != "Linux":
        return None
    name = _MACHINES.get(machine_facts.machine())
    # a 32-bit process on a 64-bit kernel sees the kernel's machine name
    if name == "linux-64" and struct.calcsize("P") == 4:
        return "linux-32"
    return name
