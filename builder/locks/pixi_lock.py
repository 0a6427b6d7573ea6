"""A lock as a pixi.lock: the environment `default` for all platforms, in version 6 of the format.

Every released pixi of the last years reads version 6, while only the newest read 7. rattler could write the file, but
only as version 7, and importing it is for the solver alone. A test compares what rattler reads here with a LockFile
that it made itself.

The format leaves out what a package's URL says already (rattler's `derived_fields.rs`), and so does this writer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from builder.locks.description import list_channels
from builder.locks.lock import Lock, LockedPackage, has_wheels, list_conda, list_wheels
from builder.locks.yaml_text import write_yaml

VERSION = 6
PUBLIC_ALIAS = "https://conda.anaconda.org"
"""Where pixi and conda find a channel of a name, unless they are told otherwise."""

_SCHEMES = ("http://", "https://")
_FOLDERS = ("noarch", "linux-32", "linux-64", "linux-aarch64", "linux-armv7l", "linux-ppc64le", "linux-s390x")
"""From URLs of these schemes with these folders every reader derives the subdir; a file:// URL it takes for a path."""

_ARCHIVE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)(?:\.conda|\.tar\.bz2)")
_NUMBER = re.compile(r"[0-9]+\Z")


def write_pixi_lock(lock: Lock) -> bytes:
    """Write all platforms of `lock` as a pixi.lock. Equal locks give equal bytes."""
    addresses = _find_addresses(lock)
    ordered = {platform: sorted(packages, key=_place) for platform, packages in lock.packages.items()}
    everything = {package.url: package for packages in ordered.values() for package in packages}
    document = {
        "version": VERSION,
        "environments": {
            "default": {
                "channels": [{"url": addresses[channel]} for channel in list_channels(lock)],
                **({"indexes": indexes} if (indexes := _list_indexes(lock)) else {}),
                "packages": {
                    platform: [{_name_kind(package): package.url} for package in packages]
                    for platform, packages in sorted(ordered.items())
                },
            }
        },
        "packages": [
            _write_wheel(package) if package.is_wheel else _write_package(package, addresses[package.channel])
            for package in sorted(everything.values(), key=_place)
        ],
    }
    return write_yaml(document)


def _place(package: LockedPackage) -> tuple[bool, str, str]:
    return package.is_wheel, package.name, package.url


def _name_kind(package: LockedPackage) -> str:
    return "pypi" if package.is_wheel else "conda"


def _list_indexes(lock: Lock) -> list[str]:
    used = (package.channel for packages in lock.packages.values() for package in list_wheels(packages))
    return list(dict.fromkeys([*lock.spec.indexes, *used])) if has_wheels(lock) else []


def _find_addresses(lock: Lock) -> dict[str, str]:
    """The address of each channel, ending in `/`.

    A lock has what people call a channel. Where that is a name, the address is the one that its packages come from, or
    else is below the same alias as that of another name.
    """
    found: dict[str, str] = {}
    alias = PUBLIC_ALIAS
    for package in list_conda(_list_packages(lock)):
        base = _find_base(package.url)
        if "://" not in package.channel and base.endswith(f"/{package.channel}/"):
            found.setdefault(package.channel, base)
            alias = found[package.channel].removesuffix(f"/{package.channel}/")
    return {channel: found.get(channel) or _resolve(channel, alias) for channel in list_channels(lock)}


def _list_packages(lock: Lock) -> Iterable[LockedPackage]:
    return (package for packages in lock.packages.values() for package in packages)


def _resolve(channel: str, alias: str) -> str:
    if "://" in channel:
        return channel.rstrip("/") + "/"
    return f"file://{channel.rstrip('/')}/" if channel.startswith("/") else f"{alias}/{channel}/"


def _find_base(url: str) -> str:
    """The address of the channel that the archive `url` seems to be in."""
    return "/".join(url.split("/")[:-2]) + "/"


def _write_package(package: LockedPackage, channel: str) -> dict[str, Any]:
    document: dict[str, Any] = {"conda": package.url}
    document |= _find_underived(package)
    document |= {name: value for name in ("sha256", "md5") if (value := getattr(package, name))}
    document |= {name: list(value) for name in ("depends", "constrains") if (value := getattr(package, name))}
    if _find_base(package.url) != channel or not package.url.startswith(_SCHEMES):
        document["channel"] = channel
    others: Mapping[str, Any] = {
        "license": package.license,
        "size": package.size,
        "timestamp": package.dates.timestamp,
        "python_site_packages_path": package.python_site_packages_path,
    }
    return document | {name: value for name, value in others.items() if value is not None}


def _write_wheel(package: LockedPackage) -> dict[str, Any]:
    """The metadata of a wheel as rattler keeps it (`PypiPackageData`)."""
    return {
        "pypi": package.url,
        "name": package.title,
        "version": package.version,
        "sha256": package.sha256,
        **({"requires_dist": list(package.depends)} if package.depends else {}),
        **({"requires_python": package.requires_python} if package.requires_python else {}),
    }


def _find_underived(package: LockedPackage) -> dict[str, Any]:
    """What identifies the package and does not follow from its URL."""
    folder, file_name = package.url.split("/")[-2:]
    match = _ARCHIVE.fullmatch(file_name)
    derived: dict[str, Any] = match.groupdict() if match else {}
    number = _NUMBER.search(package.build)
    derived["build_number"] = int(number[0]) if number else 0
    if match and folder in _FOLDERS and package.url.startswith(_SCHEMES):
        derived["subdir"] = folder
    derived["noarch"] = ("python" if "py" in package.build else "generic") if folder == "noarch" else None
    names = ("name", "version", "build", "build_number", "subdir", "noarch")
    own = {name: getattr(package, name) for name in names}
    return {name: value for name, value in own.items() if value is not None and value != derived.get(name)}
