"""`conda-lock.yml` version 1 (CEP 37), whose keys are all known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.environments.inputs.channels import drop_login, resolve_channel
from builder.environments.inputs.fields import (
    describe,
    join,
    need,
    need_list,
    need_mapping,
    need_text,
    refuse_others,
)
from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.locks.locked import MOST_PACKAGES, Facts, LockReader, choose_built, drop_credentials
from builder.environments.inputs.locks.locked_wheel import WheelFacts
from builder.environments.inputs.selectors import read_platforms
from builder.errors import InputInvalid
from storage.errors import quote

KEYS = ("version", "metadata", "package")
_METADATA = (
    *("content_hash", "channels", "platforms", "sources"),
    *("time_metadata", "git_metadata", "inputs_metadata", "custom_metadata"),
)
_CHANNEL = ("url", "used_env_vars")
_TIME = ("created_at",)
_GIT = ("git_user_name", "git_user_email", "git_sha")
_INPUT = ("md5", "sha256")
_PACKAGE = (
    *("name", "version", "manager", "platform", "dependencies", "url", "hash"),
    *("source", "build", "category", "optional"),
)
_HASH = ("md5", "sha256")
_SOURCE = ("type", "url")
_BUILT = frozenset({"main", "dev"})
"""The categories that conda-lock installs unless it is told otherwise."""
_MOST_CHANNELS = 100


def read_conda_lock(document: Mapping[str, Any], settings: InputSettings) -> EnvironmentInput:
    """Read the values of a lock file. Raises InputInvalid."""
    refuse_others(document, KEYS, "")
    version = document.get("version", 1)
    if version != 1 or isinstance(version, bool):
        raise InputInvalid("version", f"it is {quote(str(version))}; only version 1 of conda-lock's files is known")
    warnings: list[str] = []
    metadata = need_mapping(need(document, "metadata"), "metadata")
    locked, channels = _read_metadata(metadata, settings, warnings)
    platforms = choose_built(locked, settings, "metadata.platforms", warnings)
    reader = LockReader(settings, warnings)
    for platform in platforms:
        reader.begin(platform)
    _read_packages(document, metadata["platforms"], platforms, reader, warnings)
    lock = reader.finish(channels)
    return EnvironmentInput(
        InputKind.CONDA_LOCK,
        {"lockfile": drop_credentials(document)},
        lock.spec,
        lock,
        warnings=tuple(warnings),
    )


def _read_metadata(
    metadata: Mapping[str, Any], settings: InputSettings, warnings: list[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the platforms for which images can be made, and the channels. Raises InputInvalid."""
    path = "metadata"
    refuse_others(metadata, _METADATA, path)
    need_mapping(need(metadata, "content_hash", path), f"{path}.content_hash")
    need_list(need(metadata, "sources", path), f"{path}.sources", MOST_PACKAGES)
    for key, known in (("time_metadata", _TIME), ("git_metadata", _GIT)):
        if metadata.get(key) is not None:
            refuse_others(need_mapping(metadata[key], f"{path}.{key}"), known, f"{path}.{key}")
    for key in ("inputs_metadata", "custom_metadata"):
        if metadata.get(key) is not None:
            need_mapping(metadata[key], f"{path}.{key}")
    for name, hashes in (metadata.get("inputs_metadata") or {}).items():
        place = join(f"{path}.inputs_metadata", name)
        refuse_others(need_mapping(hashes, place), _INPUT, place)
    for name, value in (metadata.get("custom_metadata") or {}).items():
        if not isinstance(value, str):
            raise InputInvalid(join(f"{path}.custom_metadata", name), f"it must be text, but it is {describe(value)}")
    channels: list[str] = []
    for index, entry in enumerate(need_list(need(metadata, "channels", path), f"{path}.channels", _MOST_CHANNELS)):
        place = f"{path}.channels[{index}]"
        refuse_others(need_mapping(entry, place), _CHANNEL, place)
        url = need_text(need(entry, "url", place), f"{place}.url")
        channels += resolve_channel(drop_login(url, f"{place}.url"), f"{place}.url", settings)
    platforms = read_platforms(need(metadata, "platforms", path), f"{path}.platforms", warnings)
    return platforms, channels


def _read_packages(
    document: Mapping[str, Any],
    named: list[str],
    platforms: tuple[str, ...],
    reader: LockReader,
    warnings: list[str],
) -> None:
    """Add the packages to `reader`. Raises InputInvalid."""
    left_out: set[str] = set()
    for index, entry in enumerate(need_list(need(document, "package"), "package", MOST_PACKAGES)):
        path = f"package[{index}]"
        refuse_others(need_mapping(entry, path), _PACKAGE, path)
        platform = need_text(need(entry, "platform", path), f"{path}.platform")
        if platform not in named:
            raise InputInvalid(f"{path}.platform", f"{quote(platform)} is not among metadata.platforms")
        category = entry.get("category", "main")
        if not isinstance(category, str):
            raise InputInvalid(f"{path}.category", f"it must be text, but it is {describe(category)}")
        if category not in _BUILT:
            left_out.add(category)
        elif platform in platforms:
            _read_package(entry, platform, path, reader)
    if left_out:
        shown = ", ".join(quote(each, 40) for each in sorted(left_out)[:10])
        warnings.append(f"package: the categories {shown} are left out; main and dev are built")


def _read_package(entry: Mapping[str, Any], platform: str, path: str, reader: LockReader) -> None:
    name = need_text(need(entry, "name", path), f"{path}.name")
    version = need_text(need(entry, "version", path), f"{path}.version")
    manager = need(entry, "manager", path)
    hashes = need_mapping(need(entry, "hash", path), f"{path}.hash")
    refuse_others(hashes, _HASH, f"{path}.hash")
    if entry.get("source") is not None:
        refuse_others(need_mapping(entry["source"], f"{path}.source"), _SOURCE, f"{path}.source")
    if manager == "pip":
        wheel = WheelFacts(sha256=hashes.get("sha256"), name=name, version=version)
        reader.add_wheel(platform, need(entry, "url", path), wheel, path)
        return
    if manager != "conda":
        raise InputInvalid(f"{path}.manager", f"it is {quote(str(manager))}; it must be conda or pip")
    facts = Facts(
        sha256=hashes.get("sha256"),
        md5=hashes.get("md5"),
        depends=_read_dependencies(entry.get("dependencies"), f"{path}.dependencies"),
        agrees={"name": name, "version": version, "build": entry.get("build")},
    )
    reader.add(platform, need(entry, "url", path), facts, path)


def _read_dependencies(value: Any, path: str) -> list[str]:
    """As match specs. Raises InputInvalid."""
    if value is None:
        return []
    return [
        f"{name} {_read_constraint(constraint, join(path, name))}".strip()
        for name, constraint in need_mapping(value, path).items()
    ]


def _read_constraint(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise InputInvalid(path, f"it must be text, but it is {describe(value)}")
    return value
