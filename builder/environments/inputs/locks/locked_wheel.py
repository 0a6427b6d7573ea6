"""One wheel of a lock that somebody else wrote, checked so far that a build may use it.

Its file name says what it is (PEP 427), and what the lock says besides must agree. The lock does not choose the index:
that is the one of the server's whose files are at the wheel's host, or else the host itself, which the settings then
have to allow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.channels.channel import strip_credentials
from builder.channels.index_policy import PYPI
from builder.environments.inputs.input import InputSettings
from builder.errors import InputInvalid
from builder.locks.grammar import LONGEST
from builder.locks.lock import WHEEL_PREFIX, LockedPackage, describe_wheel
from builder.names.wheel_name import parse_wheel_name
from builder.platforms import WHEEL_MACHINES
from storage.errors import quote
from storage.text import redact

PYPI_FILES = "files.pythonhosted.org"
"""Where PyPI's index links to."""

_LONGEST_URL = 2000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FRAGMENT = re.compile(r"(?:sha256=[0-9a-f]{64})?")
_SOURCES = (".tar.gz", ".zip", ".tar.bz2")


@dataclass(frozen=True)
class WheelFacts:
    """What a lock says of a wheel besides its address."""

    sha256: Any = None
    size: Any = None
    name: Any = None
    version: Any = None


def read_wheel(url: Any, facts: WheelFacts, platform: str, path: str, settings: InputSettings) -> LockedPackage:
    """Make the wheel of one platform. Raises InputInvalid."""
    parts = _split(url, path)
    file_name = unquote(parts.path.rpartition("/")[2])
    name, version, tags, number = _read_file_name(file_name, path)
    _check_agrees(facts, name, version, file_name, path)
    if not any(_fits(tag, platform) for tag in tags):
        raise InputInvalid(path, f"{quote(file_name)} is not for {platform}, for which it is locked")
    sha256 = facts.sha256.lower() if isinstance(facts.sha256, str) else ""
    if not _SHA256.fullmatch(sha256):
        raise InputInvalid(f"{path}.sha256", "a wheel needs its sha256, so that the right bytes arrive")
    size = facts.size if isinstance(facts.size, int) and not isinstance(facts.size, bool) and facts.size > 0 else None
    build, subdir = describe_wheel(file_name, tags, platform)
    return LockedPackage(
        name=WHEEL_PREFIX + name,
        version=str(version),
        build=build,
        build_number=number,
        subdir=subdir,
        channel=_find_index(parts, settings),
        url=parts._replace(fragment="").geturl(),
        file_name=file_name,
        size=size,
        sha256=sha256,
        md5=None,
    )


def _split(url: Any, path: str) -> SplitResult:
    if not isinstance(url, str) or not url:
        raise InputInvalid(path, "it must be the address of a wheel")
    shown = quote(redact(url))
    try:
        parts = urlsplit(strip_credentials(url))
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        raise InputInvalid(path, f"{shown} is not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputInvalid(
            path, f"{shown} does not start with https:// or http://; paths and source code cannot be installed"
        )
    if len(url) > _LONGEST_URL or not url.isprintable() or " " in url or parts.query:
        raise InputInvalid(path, f"{shown} is too long, or has a space, a control character or a query")
    if not _FRAGMENT.fullmatch(parts.fragment) or any(
        step in ("", ".", "..") for step in unquote(parts.path).split("/")[1:]
    ):
        raise InputInvalid(path, f"{shown} has an empty step, . or .. in its path, or a fragment")
    return parts


def _read_file_name(file_name: str, path: str) -> tuple[str, Version, frozenset[Tag], int]:
    if file_name.endswith(_SOURCES):
        raise InputInvalid(
            path,
            f"{quote(file_name)} is source code, and nothing is built here; lock a version that has a wheel, or the "
            "conda package",
        )
    try:
        name, version, build, tags = parse_wheel_name(file_name)
    except InvalidWheelFilename:
        raise InputInvalid(path, f"{quote(file_name)} is not the name of a wheel (PEP 427)") from None
    if len(file_name) > LONGEST:
        raise InputInvalid(path, f"the file's name has {len(file_name)} characters; at most {LONGEST} are allowed")
    return name, version, tags, build[0] if build else 0


def _check_agrees(facts: WheelFacts, name: str, version: Version, file_name: str, path: str) -> None:
    if facts.name is not None and (not isinstance(facts.name, str) or canonicalize_name(facts.name) != name):
        raise InputInvalid(f"{path}.name", f"it is {quote(str(facts.name))}, but the file is {quote(file_name)}")
    if facts.version is None:
        return
    try:
        agrees = Version(str(facts.version)[:LONGEST]) == version
    except InvalidVersion:
        agrees = False
    if not agrees:
        raise InputInvalid(f"{path}.version", f"it is {quote(str(facts.version))}, but the file is {quote(file_name)}")


def _fits(tag: Tag, platform: str) -> bool:
    """Whether a wheel of this tag is for the platform, whatever its version of glibc."""
    if tag.platform == "any":
        return True
    machine = WHEEL_MACHINES.get(platform)
    return machine is not None and re.fullmatch(rf"(?:many)?linux\w*_{machine}", tag.platform) is not None


def _find_index(parts: SplitResult, settings: InputSettings) -> str:
    for index in settings.pypi_indexes:
        if urlsplit(index)[:2] == parts[:2] or (index == PYPI and parts[:2] == ("https", PYPI_FILES)):
            return index
    return f"{parts.scheme}://{parts.netloc}"
