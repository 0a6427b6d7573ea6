"""`pylock.toml` (PEP 751): the wheels of an environment whose python is a conda package.

conda chooses the python that the file requires. Which of a package's files fits it is chosen then, among those that the
file has the hashes of: nothing else is taken.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from packaging.pylock import Package, Pylock, PylockValidationError

from builder.environments.inputs.environment_file import read_match_spec
from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.locks.locked import MOST_PACKAGES, drop_credentials
from builder.environments.inputs.pip_part import check_address
from builder.errors import InputInvalid
from builder.names.requirement import merge_requirements
from builder.names.spec import EnvironmentSpec
from storage.errors import quote

_OWN_MARKERS = re.compile(r"\b(?:extras|dependency_groups)\b")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_pylock(text: str, file_name: str | None) -> bool:
    """By its name, or by the key that every such file has."""
    if file_name is not None and re.fullmatch(r"(?:.*/)?pylock(?:\.[^./]+)?\.toml", file_name):
        return True
    return re.search(r"(?m)^lock-version[ \t]*=", text) is not None


def read_pylock(text: str, settings: InputSettings) -> EnvironmentInput:
    """Read a file. Raises InputInvalid."""
    try:
        document = tomllib.loads(text)
        lock = Pylock.from_dict(document)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputInvalid("", f"it is not TOML: {error}") from None
    except PylockValidationError as error:
        raise InputInvalid("", f"it is not a pylock.toml (PEP 751): {error}") from None
    if len(lock.packages) > MOST_PACKAGES:
        raise InputInvalid("packages", f"it has more than {MOST_PACKAGES} packages")
    requirements, hashes = [], dict[str, set[str]]()
    for number, package in enumerate(lock.packages):
        path = f"packages[{number}]"
        requirements.append(_write_requirement(package, path))
        hashes.setdefault(str(package.name), set()).update(_read_hashes(package, path))
    python = f"python {lock.requires_python}" if lock.requires_python else "python"
    spec = EnvironmentSpec(
        items=(read_match_spec(python.strip(), "requires-python", settings),),
        channels=settings.channels,
        platforms=tuple(sorted(set(settings.platforms))),
        prefix=settings.prefix,
        requirements=merge_requirements(requirements),
        indexes=_list_indexes(lock, settings),
        hashes=tuple((name, tuple(sorted(each))) for name, each in sorted(hashes.items())),
    )
    return EnvironmentInput(InputKind.PYLOCK, {"lockfile": _write(drop_credentials(document))}, spec)


def _write_requirement(package: Package, path: str) -> str:
    if not package.wheels:
        raise InputInvalid(
            path,
            f"{quote(str(package.name))} has no wheels, only source code, which is not built here; lock another "
            "version, or ask for the conda package",
        )
    if package.version is None:
        raise InputInvalid(path, f"{quote(str(package.name))} has no version")
    marker = str(package.marker or "")
    if _OWN_MARKERS.search(marker):
        raise InputInvalid(f"{path}.marker", "extras and dependency groups cannot be chosen here; lock without them")
    return f"{package.name}=={package.version}" + (f"; {marker}" if marker else "")


def _read_hashes(package: Package, path: str) -> list[str]:
    found = []
    for number, wheel in enumerate(package.wheels or ()):
        sha256 = str(wheel.hashes.get("sha256", "")).lower()
        if not _SHA256.fullmatch(sha256):
            raise InputInvalid(f"{path}.wheels[{number}].hashes", "a wheel needs its sha256")
        found.append(sha256)
    return found


def _list_indexes(lock: Pylock, settings: InputSettings) -> tuple[str, ...]:
    named = dict.fromkeys(package.index.rstrip("/") for package in lock.packages if package.index)
    for index in named:
        check_address(index, "packages.index")
    return () if named.keys() <= set(settings.pypi_indexes) else tuple(named)


def _write(value: Any) -> Any:
    """The document as JSON has it: TOML has times."""
    if isinstance(value, Mapping):
        return {key: _write(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_write(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
