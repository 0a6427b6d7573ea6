"""From the bytes that somebody sent to an `EnvironmentInput`: which kind of file it is, and its reader.

Reading is pure and bounded: by bytes before anything is parsed, by depth and number of values while it is, and by time
where it is done in a worker process.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builder.environments.inputs.environment_file import read_environment_file
from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.locks.conda_lock import read_conda_lock
from builder.environments.inputs.locks.explicit_list import is_explicit, read_explicit
from builder.environments.inputs.locks.pixi_lock import read_pixi_lock
from builder.environments.inputs.locks.pylock import is_pylock, read_pylock
from builder.environments.inputs.pixi_manifest import is_pixi_manifest, read_pixi_manifest
from builder.environments.inputs.yaml_text import read_yaml
from builder.errors import InputInvalid, MemoryLimit, WorkerLost
from builder.work.pool import WorkerPool

LARGEST = 1 << 20
"""Bytes of an environment file or manifest."""
LARGEST_LOCK = 16 << 20
MOST_WARNINGS = 50
SECONDS = 30.0
"""For reading one file in a worker. The largest real ones take a second."""

_LOCK = re.compile(rb"(?m)^[ \t]*@EXPLICIT\s*$|^[\"']?(?:packages?|environments|metadata)[\"']?:")


def read_input(
    content: bytes, settings: InputSettings, *, file_name: str | None = None, is_lock: bool | None = None
) -> EnvironmentInput:
    """Read one file. `is_lock` says which it must be, if that is known. Raises InputInvalid.

    It may take seconds: use `read_input_aside` in an event loop.
    """
    text = _decode(content)
    found = _read_kind(text, settings, file_name)
    if is_lock is not None and found.kind.is_lock != is_lock and found.kind is not InputKind.PYLOCK:
        what = "an environment file" if is_lock else "a lock file"
        raise InputInvalid("", f"it is {what}; send it as one (is_lockfile: {str(not is_lock).lower()})")
    if (more := len(found.warnings) - MOST_WARNINGS) > 0:
        return replace(found, warnings=(*found.warnings[:MOST_WARNINGS], f"and {more} more"))
    return found


async def read_input_aside(
    content: bytes,
    settings: InputSettings,
    pool: WorkerPool,
    *,
    file_name: str | None = None,
    is_lock: bool | None = None,
    seconds: float = SECONDS,
) -> EnvironmentInput:
    """Read one file in a worker process, within a time and the memory of a worker. Raises InputInvalid, WorkerLost."""
    check_size(content)
    try:
        async with asyncio.timeout(seconds):
            return await pool.run(
                "reading an environment file", read_input, content, settings, file_name=file_name, is_lock=is_lock
            )
    except (TimeoutError, MemoryLimit, WorkerLost):
        raise InputInvalid("", "reading it takes more time or memory than allowed; send a smaller one") from None


def check_size(content: bytes) -> None:
    """Raises InputInvalid for a file that is larger than its kind may be."""
    if len(content) > LARGEST_LOCK or (len(content) > LARGEST and not _LOCK.search(content)):
        most = LARGEST_LOCK if len(content) > LARGEST_LOCK else LARGEST
        raise InputInvalid(
            "",
            f"it has {len(content)} bytes; at most {most} are allowed"
            + ("" if most == LARGEST_LOCK else f" (of a lock file {LARGEST_LOCK})"),
        )


def _decode(content: bytes) -> str:
    check_size(content)
    if not content.strip():
        raise InputInvalid("", "it is empty")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputInvalid("", f"it is not UTF-8 text (byte {error.start})") from None


def _read_kind(text: str, settings: InputSettings, file_name: str | None) -> EnvironmentInput:
    if is_explicit(text):
        return read_explicit(text, settings)
    if is_pylock(text, file_name):
        return read_pylock(text, settings)
    if is_pixi_manifest(text, file_name):
        return read_pixi_manifest(text, settings)
    comments: dict[str, list[str]] = {}
    document = read_yaml(text, comments)
    match document:
        case dict() if is_pixi_lock(document):
            return read_pixi_lock(document, settings)
        case dict() if is_conda_lock(document):
            return read_conda_lock(document, settings)
        case _:
            return read_environment_file(document, settings, comments)


def is_conda_lock(document: Mapping[str, Any]) -> bool:
    """Whether it is meant to be one: also one that lacks something."""
    return "dependencies" not in document and ("package" in document or "metadata" in document)


def is_pixi_lock(document: Mapping[str, Any]) -> bool:
    """Likewise. Old ones are told from conda-lock's by their version, and by a key that those must have."""
    version, packages = document.get("version"), document.get("package")
    is_conda = isinstance(packages, list) and any(isinstance(each, dict) and "optional" in each for each in packages)
    is_old = is_conda_lock(document) and isinstance(version, int) and version > 1 and not is_conda
    return "dependencies" not in document and ("environments" in document or is_old)
