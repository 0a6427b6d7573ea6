"""A lock in the file formats that people already use: FORMATS, the one table of them, and their writers.

Pure functions from a `Lock` to bytes; equal locks give equal bytes. The URLs are the lock's, which hold no credentials.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.errors import FormatUnsuitable
from builder.locks.description import describe_spec, find_newest, format_time, list_channels, suggest_name
from builder.locks.lock import Lock, LockedPackage, list_conda, list_wheels
from builder.locks.pixi_lock import write_pixi_lock
from builder.locks.pylock import write_pylock
from builder.locks.yaml_text import write_yaml

_SPEC = re.compile(r"(?:.*::)?(?P<name>[A-Za-z0-9_.-]+)\s*(?P<rest>.*)", re.DOTALL)


def write_conda_lock(lock: Lock) -> bytes:
    """Write all platforms of `lock` as a conda-lock v1 file.

    The result equals that of conda-lock's own models, as a test checks. They are not used here because importing them
    takes more than a second of a worker's time, and every image holds this file. rattler reads it too. Raises
    FormatUnsuitable for a package whose channel gives no md5, which conda-lock requires.
    """
    document = {
        "version": 1,
        "metadata": {
            "content_hash": dict.fromkeys(lock.packages, lock.spec.key),
            "channels": [{"url": channel, "used_env_vars": []} for channel in list_channels(lock)],
            "platforms": list(lock.packages),
            "sources": [],
            "time_metadata": {
                "created_at": format_time(find_newest(package for group in lock.packages.values() for package in group))
            },
            "custom_metadata": {
                "condery-lock": f"lock-{lock.key}",
                "condery-specs": ", ".join(lock.spec.list_wishes()),
            },
        },
        "package": [
            _write_conda_lock_package(package, platform)
            for platform, packages in lock.packages.items()
            for package in packages
        ],
    }
    header = (
        "# A conda-lock file: what this environment holds, with hashes. Install it with one of\n"
        "#   conda-lock install --name NAME conda-lock.yml\n"
        "#   micromamba create --name NAME --file conda-lock.yml\n"
    )
    return header.encode() + write_yaml(document)


def write_explicit(lock: Lock, platform: str) -> bytes:
    """Write the packages of `platform` as an explicit list (`conda create --name NAME --file explicit.txt`).

    Each URL carries its hash, which conda, mamba and rattler verify.
    """
    lines = [
        f"# Packages of {describe_spec(lock.spec)}, lock-{lock.key}",
        "# Install with: conda create --name NAME --file explicit.txt",
        f"# platform: {platform}",
        "@EXPLICIT",
    ]
    for package in list_conda(lock.packages[platform]):
        fragment = f"sha256:{package.sha256}" if package.sha256 else package.md5
        lines.append(f"{package.url}#{fragment}" if fragment else package.url)
    if wheels := list_wheels(lock.packages[platform]):
        lines += [
            "# An explicit list can hold conda packages only. These PyPI packages are left out. To add them, put the",
            "# lines, without the two characters before each, into a FILE: pip install --no-deps --requirement FILE",
            *(f"# {package.title} @ {package.url}#sha256={package.sha256}" for package in wheels),
        ]
    return "\n".join([*lines, ""]).encode()


def write_environment_file(lock: Lock, platform: str) -> bytes:
    """Write the environment of `platform` like `conda env export`: every package as `name=version=build`.

    It recreates the same environment on that platform. A comment has the requested specs, to be copied for a fresh
    solve.
    """
    document = {
        "name": suggest_name(lock.spec),
        "channels": list_channels(lock),
        "dependencies": [
            *(
                f"{package.name}={package.version}={package.build}"
                for package in sorted(list_conda(lock.packages[platform]), key=lambda package: package.name)
            ),
            *([{"pip": pip}] if (pip := _list_pip_lines(lock, platform)) else []),
        ],
        **({"variables": dict(lock.spec.variables)} if lock.spec.variables else {}),
    }
    header = [
        f"# The exact packages of lock-{lock.key} for {platform}",
        f"# Asked for: {', '.join(lock.spec.list_wishes())}",
        *(f"# Solved with {name}={version}" for name, version in lock.spec.virtual_packages),
        "# Create with: conda env create --file environment.yaml",
    ]
    return ("\n".join(header) + "\n").encode() + write_yaml(document)


def _list_pip_lines(lock: Lock, platform: str) -> list[str]:
    """The lines of an environment file's `pip` part: every wheel by its version, after the indexes."""
    wheels = list_wheels(lock.packages[platform])
    if not wheels:
        return []
    *extra, main = lock.spec.indexes or ("",)
    options = [f"--index-url {main}"] if main else []
    return [
        *options,
        *(f"--extra-index-url {index}" for index in extra),
        *sorted(f"{package.title}=={package.version}" for package in wheels),
    ]


def _write_conda_lock_package(package: LockedPackage, platform: str) -> dict[str, Any]:
    if package.is_wheel:
        return _write_conda_lock_entry(
            package, platform, "pip", _merge_requirements(package.depends), {"sha256": package.sha256}
        )
    if package.md5 is None:
        raise FormatUnsuitable(
            CONDA_LOCK.file_name,
            f"the format requires the md5 of every package, and {package.channel} gives none for {package}",
        )
    hashes = {"md5": package.md5} | ({"sha256": package.sha256} if package.sha256 else {})
    return _write_conda_lock_entry(package, platform, "conda", _merge_dependencies(package.depends), hashes)


def _write_conda_lock_entry(
    package: LockedPackage, platform: str, manager: str, dependencies: dict[str, str], hashes: Mapping[str, str | None]
) -> dict[str, Any]:
    return {
        "name": package.title,
        "version": package.version,
        "manager": manager,
        "platform": platform,
        "dependencies": dependencies,
        "url": package.url,
        "hash": dict(hashes),
        "category": "main",
        "optional": False,
    }


def _merge_dependencies(depends: Sequence[str]) -> dict[str, str]:
    """Map each name to its constraint.

    A name given twice (`python >=3.12`, `python <3.13`) gets both if they can be joined.
    """
    merged: dict[str, str] = {}
    for depend in depends:
        match = _SPEC.match(depend)
        if match is None:
            continue
        name, rest = match["name"], match["rest"].strip()
        known = merged.get(name, "")
        if not known or known == rest:
            merged[name] = rest
        elif rest and not re.search(r"[\s\[]", known + rest):
            merged[name] = f"{known},{rest}"
        elif len(rest) > len(known):
            # a constraint with a build string cannot be joined to others: keep the more specific one
            merged[name] = rest
    return merged


def _merge_requirements(depends: Sequence[str]) -> dict[str, str]:
    """Map the name of each distribution that a wheel needs without extras to its versions, `*` for all."""
    merged: dict[str, str] = {}
    for requirement in map(Requirement, depends):
        if requirement.marker is None or "extra" not in str(requirement.marker):
            merged[canonicalize_name(requirement.name)] = str(requirement.specifier) or "*"
    return merged


class FormatName(enum.StrEnum):
    """The command line's names of the formats."""

    CONDA_LOCK = "conda-lock"
    PIXI = "pixi"
    EXPLICIT = "explicit"
    YAML = "yaml"
    PYLOCK = "pylock"


@dataclass(frozen=True)
class LockFormat:
    """A file format for locks."""

    name: FormatName
    file_name: str
    """The name by which tools recognise the file, and by which it is requested beside an image."""
    media_type: str
    write: Callable[[Lock, str], bytes]
    """Writes the file for one of the lock's platforms. Raises FormatUnsuitable."""
    all_platforms: bool = False
    """Whether one file holds all platforms, so that `write` ignores the platform."""


CONDA_LOCK = LockFormat(
    FormatName.CONDA_LOCK,
    "conda-lock.yml",
    "application/yaml",
    lambda lock, _: write_conda_lock(lock),
    all_platforms=True,
)
PIXI = LockFormat(
    FormatName.PIXI, "pixi.lock", "application/yaml", lambda lock, _: write_pixi_lock(lock), all_platforms=True
)
EXPLICIT = LockFormat(FormatName.EXPLICIT, "explicit.txt", "text/plain; charset=utf-8", write_explicit)
ENVIRONMENT_FILE = LockFormat(FormatName.YAML, "environment.yaml", "application/yaml", write_environment_file)
PYLOCK = LockFormat(FormatName.PYLOCK, "pylock.toml", "application/toml", write_pylock)

FORMATS = (CONDA_LOCK, PIXI, EXPLICIT, ENVIRONMENT_FILE, PYLOCK)
