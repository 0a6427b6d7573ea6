"""Explicit lists (CEP 23): `@EXPLICIT` and an address with its hash in every line."""

from __future__ import annotations

import re

from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.locks.locked import MOST_PACKAGES, Facts, LockReader, drop_credentials, read_address
from builder.environments.inputs.selectors import read_platforms
from builder.errors import InputInvalid
from builder.locks.lock import Lock
from builder.platforms import OCI_PLATFORMS
from storage.errors import quote

_EXPLICIT = re.compile(r"(?m)^[ \t]*@EXPLICIT[ \t]*\r?$")
_PLATFORM = re.compile(r"#[ \t]*platform:[ \t]*(\S+)")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


def is_explicit(text: str) -> bool:
    return _EXPLICIT.search(text) is not None


def read_explicit(text: str, settings: InputSettings) -> EnvironmentInput:
    """Read the lines of a list. Raises InputInvalid, which names the line."""
    rows: list[tuple[str, str, Facts]] = []
    said: tuple[str, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        path = f"line {number}"
        if match := _PLATFORM.fullmatch(line):
            said = said or (match[1], path)
        if not line or line.startswith("#") or line == "@EXPLICIT":
            continue
        url, separator, fragment = line.partition("#")
        rows.append((path, url.strip(), _read_hash(fragment.strip(), path) if separator else Facts()))
        if len(rows) > MOST_PACKAGES:
            raise InputInvalid("", f"it has more than {MOST_PACKAGES} packages")
    if not rows:
        raise InputInvalid("", "it lists no packages")
    warnings: list[str] = []
    platform = _choose_platform(rows, said, settings, warnings)
    reader = LockReader(settings, warnings)
    for path, url, facts in rows:
        reader.add(platform, url, facts, path)
    lock = reader.finish(())
    return EnvironmentInput(
        InputKind.EXPLICIT,
        {"lockfile": {"platform": platform, "explicit": list_lines(lock, platform)}},
        lock.spec,
        lock,
        warnings=tuple(warnings),
    )


def list_lines(lock: Lock, platform: str) -> list[str]:
    """The lines of the list, with the one hash that is used, and without credentials."""
    lines = []
    for package in lock.packages[platform]:
        fragment = f"sha256:{package.sha256}" if package.sha256 else package.md5
        lines.append(f"{drop_credentials(package.url)}#{fragment}")
    return lines


def _read_hash(text: str, path: str) -> Facts:
    if _MD5.fullmatch(text):
        return Facts(md5=text)
    if match := _SHA256.fullmatch(text):
        return Facts(sha256=match[1])
    raise InputInvalid(path, f"{quote(text)} is neither an md5 nor a sha256, which follows the address after #")


def _choose_platform(
    rows: list[tuple[str, str, Facts]], said: tuple[str, str] | None, settings: InputSettings, warnings: list[str]
) -> str:
    """The platform that the list's comment says, or that its addresses have. Raises InputInvalid."""
    found = dict.fromkeys(
        subdir for path, url, _ in rows if (subdir := read_address(url, path, settings).subdir) != "noarch"
    )
    if said:
        (platform,) = read_platforms([said[0]], said[1], warnings)
        return platform
    if len(found) > 1:
        raise InputInvalid("", f"it has packages of {' and '.join(found)}; an explicit list is for one platform")
    if found:
        (platform,) = read_platforms(list(found), "", warnings)
        return platform
    if len(settings.platforms) == 1 and settings.platforms[0] in OCI_PLATFORMS:
        return settings.platforms[0]
    raise InputInvalid("", "nothing says which platform it is for; add a line such as: # platform: linux-64")
