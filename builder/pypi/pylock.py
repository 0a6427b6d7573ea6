"""Reads the lock that uv wrote (PEP 751): of each package the best wheel that runs on the platform."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name

from builder.errors import RequirementRefused
from builder.locks.lock import describe_wheel
from builder.names.wheel_name import parse_wheel_name
from builder.pypi.platform import WheelPlatform
from builder.pypi.view import Link


@dataclass(frozen=True)
class ChosenWheel:
    """`name` is that of PEP 503. `tags` are those of the file's name, with the build number before them."""

    name: str
    version: str
    file_name: str
    tags: str
    build_number: int
    subdir: str
    """`noarch` if it runs on every platform, else the platform."""
    link: Link
    size: int | None
    uploaded: int | None
    """Milliseconds UTC."""
    parsed_tags: frozenset[Tag] = frozenset()


def read_pylock(content: bytes, platform: WheelPlatform) -> list[ChosenWheel]:
    """Return what is to be installed, without what conda provides. Raises RequirementRefused."""
    document = tomllib.loads(content.decode())
    return list(_choose_all(document, platform))


def _choose_all(document: Mapping[str, Any], platform: WheelPlatform) -> Iterator[ChosenWheel]:
    for package in document.get("packages", []):
        if "archive" in package:
            continue
        name = canonicalize_name(package["name"])
        wheels = [wheel for each in package.get("wheels", []) if (wheel := _read_wheel(name, each, platform))]
        ranked = [(rank, wheel) for wheel in wheels if (rank := _rank(wheel, platform)) is not None]
        if not ranked:
            raise RequirementRefused(
                name, f"{package.get('version')} has no wheel for python {platform.python} on {platform.platform}"
            )
        yield min(ranked, key=lambda each: (each[0], each[1].file_name))[1]


def _read_wheel(name: str, wheel: Mapping[str, Any], platform: WheelPlatform) -> ChosenWheel | None:
    link = Link.parse(urlsplit(wheel["url"]).path)
    sha256 = wheel.get("hashes", {}).get("sha256")
    if link is None or sha256 != link.sha256:
        return None
    file_name = unquote(link.url.rpartition("/")[2])
    try:
        distribution, version, build, tags = parse_wheel_name(file_name)
    except InvalidWheelFilename:
        return None
    if canonicalize_name(distribution) != name:
        return None
    uploaded = wheel.get("upload-time")
    written, subdir = describe_wheel(file_name, tags, platform.platform)
    return ChosenWheel(
        name,
        str(version),
        file_name,
        written,
        build[0] if build else 0,
        subdir,
        link,
        wheel.get("size"),
        int(uploaded.timestamp() * 1000) if isinstance(uploaded, datetime.datetime) else None,
        tags,
    )


def _rank(wheel: ChosenWheel, platform: WheelPlatform) -> tuple[int, int] | None:
    """How good a wheel is, the lowest being best: by its tags, then by its build number."""
    ranks = [platform.ranks[tag] for tag in wheel.parsed_tags if tag in platform.ranks]
    return (min(ranks), -wheel.build_number) if ranks else None
