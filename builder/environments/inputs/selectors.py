"""Platforms: those that an environment is for, and dependencies that only some of them have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from builder.environments.inputs.fields import need_list, need_text
from builder.errors import InputInvalid
from builder.names.items import OTHER_PLATFORMS
from builder.platforms import OCI_PLATFORMS
from storage.errors import quote
from storage.suggestions import did_you_mean, find_near

MOST = 50
_OTHERS = frozenset(OTHER_PLATFORMS) - {"noarch"}
_SELECTOR = re.compile(r"sel\(\s*(\w+)\s*\)")
_SYSTEMS = {"unix": True, "linux": True, "osx": False, "win": False}
"""Whether a selector holds for the platforms of images, all of which are Linux."""


def read_platforms(value: Any, path: str, warnings: list[str]) -> tuple[str, ...]:
    """Read a list of platforms, sorted. Those for which no image can be made are left out with a warning.

    Raises InputInvalid if none is left, or one is unknown.
    """
    names = [need_text(each, f"{path}[{index}]").strip() for index, each in enumerate(need_list(value, path, MOST))]
    for index, name in enumerate(names):
        if name not in OCI_PLATFORMS and name not in _OTHERS:
            known, meant = ", ".join(OCI_PLATFORMS), did_you_mean(find_near(name, OCI_PLATFORMS))
            raise InputInvalid(f"{path}[{index}]", f"{quote(name)} is not a platform; the platforms are {known}{meant}")
    return choose_platforms(names, path, warnings)


def choose_platforms(names: Sequence[str], path: str, warnings: list[str]) -> tuple[str, ...]:
    """Those of `names` for which images can be made, sorted. Raises InputInvalid if there is none."""
    chosen = tuple(sorted({name for name in names if name in OCI_PLATFORMS}))
    others = sorted({quote(name, 40)[1:-1] for name in names} - set(chosen))
    if not chosen:
        which = f"it has only {', '.join(others[:10])}" if others else "it has none"
        raise InputInvalid(path, f"{which}, but environments are made for Linux only; add a platform such as linux-64")
    if others:
        warnings.append(f"{path}: environments are made for Linux only; left out: {', '.join(others[:10])}")
    return chosen


def read_selector(key: str) -> bool | None:
    """Whether a `sel(...)` of micromamba holds (CEP 24); None if `key` is something else."""
    match = _SELECTOR.fullmatch(key)
    return _SYSTEMS.get(match[1]) if match else None
