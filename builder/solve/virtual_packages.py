"""What a container's machine provides, as virtual packages (CEP 30). The server decides, not its host."""

from __future__ import annotations

from collections.abc import Sequence

LINUX = "5.10"
"""The container's host is unknown; this kernel is older than any that is still maintained."""
MACOS = "13.0"
DEFAULT_GLIBC = "2.28"
"""Used when neither the settings nor the base say."""

_ARCHSPECS = {
    "32": "x86",
    "64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "m1",
    "armv6l": "armv6l",
    "armv7l": "armv7l",
    "loong64": "loongarch64",
    "ppc64": "ppc64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


def list_virtual_packages(
    platform: str, glibc: str, extra: Sequence[tuple[str, str]] = ()
) -> tuple[tuple[str, str, str], ...]:
    """List (name, version, build) of each virtual package of a conda platform.

    `extra` (name, version) adds or replaces.
    """
    system, _, machine = platform.partition("-")
    found: dict[str, tuple[str, str]] = {}
    if system == "linux":
        found = {"__unix": ("0", "0"), "__linux": (LINUX, "0"), "__glibc": (glibc, "0")}
    elif system == "osx":
        found = {"__unix": ("0", "0"), "__osx": (MACOS, "0")}
    elif system == "win":
        found = {"__win": ("0", "0")}
    if machine in _ARCHSPECS:
        found["__archspec"] = ("1", _ARCHSPECS[machine])
    found.update({name: (version, "0") for name, version in extra})
    return tuple((name, version, build) for name, (version, build) in sorted(found.items()))
