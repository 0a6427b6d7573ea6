"""`pixi.lock`, versions 2 to 7 of the format: the environment `default`.

From version 5 on, environments list addresses, and `packages` says more of each. Before, it was conda-lock's format
with more keys. Which keys there are is rattler's to know; what is not needed here is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote as quote_path

from builder.environments.inputs.channels import drop_login, resolve_channel
from builder.environments.inputs.fields import join, need, need_list, need_mapping, need_text
from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.locks.locked import (
    MOST_PACKAGES,
    Facts,
    LockReader,
    choose_built,
    drop_credentials,
    find_local_channel,
)
from builder.environments.inputs.locks.locked_wheel import WheelFacts
from builder.environments.inputs.selectors import choose_platforms
from builder.errors import InputInvalid
from storage.errors import quote

DEFAULT = "default"
VERSIONS = range(2, 8)
_WITH_ENVIRONMENTS = 5
_MOST = 100
_AGREE = ("name", "version", "build", "subdir")


def read_pixi_lock(document: Mapping[str, Any], settings: InputSettings) -> EnvironmentInput:
    """Read the values of a lock file. Raises InputInvalid."""
    version = need(document, "version")
    if not isinstance(version, int) or isinstance(version, bool) or version not in VERSIONS:
        raise InputInvalid(
            "version", f"it is {quote(str(version))}; versions {VERSIONS[0]} to {VERSIONS[-1]} of pixi.lock are known"
        )
    warnings: list[str] = []
    reader = LockReader(settings, warnings)
    read = _read_environments if version >= _WITH_ENVIRONMENTS else _read_old
    channels = read(document, settings, reader, warnings)
    lock = reader.finish(channels)
    return EnvironmentInput(
        InputKind.PIXI_LOCK,
        {"lockfile": drop_credentials(document)},
        lock.spec,
        lock,
        warnings=tuple(warnings),
    )


def _read_environments(
    document: Mapping[str, Any], settings: InputSettings, reader: LockReader, warnings: list[str]
) -> list[str]:
    """Add the packages of the environment; return its channels."""
    environments = need_mapping(need(document, "environments"), "environments")
    if DEFAULT not in environments:
        known = ", ".join(quote(name, 40) for name in list(environments)[:10])
        raise InputInvalid("environments", f"it has no environment {DEFAULT}, which is the one that is built: {known}")
    others = [quote(name, 40) for name in environments if name != DEFAULT]
    if others:
        warnings.append(f"environments: {DEFAULT} is built; left out: {', '.join(others[:10])}")
    path = join("environments", DEFAULT)
    environment = need_mapping(environments[DEFAULT], path)
    by_platform = need_mapping(need(environment, "packages", path), f"{path}.packages")
    keys = _name_platforms(document, by_platform, f"{path}.packages")
    entries = _index_packages(document)
    for platform in choose_built(
        choose_platforms(list(keys), f"{path}.packages", warnings), settings, f"{path}.packages", warnings
    ):
        reader.begin(platform)
        place = join(f"{path}.packages", keys[platform])
        for index, entry in enumerate(need_list(by_platform[keys[platform]], place, MOST_PACKAGES)):
            _read_entry(entry, f"{place}[{index}]", platform, entries, reader)
    return _read_channels(environment, path, settings)


def _name_platforms(document: Mapping[str, Any], by_platform: Mapping[str, Any], path: str) -> dict[str, str]:
    """By conda platform, the name that the file gives it: from version 7 on a name of its own."""
    subdirs: dict[str, str] = {}
    for index, entry in enumerate(need_list(document.get("platforms") or [], "platforms", _MOST)):
        place = f"platforms[{index}]"
        name = need_text(need(need_mapping(entry, place), "name", place), f"{place}.name")
        subdirs[name] = need_text(entry.get("subdir") or name, f"{place}.subdir")
    found: dict[str, str] = {}
    for name in by_platform:
        platform = subdirs.get(name, name)
        if other := found.get(platform):
            raise InputInvalid(
                join(path, name), f"it is for {quote(platform)}, as {quote(other)} is; an image has one of them"
            )
        found[platform] = name
    return found


def _index_packages(document: Mapping[str, Any]) -> dict[tuple[str, str], tuple[str, Mapping[str, Any]]]:
    """The entries of `packages` with their paths, by kind and address. Raises InputInvalid."""
    found: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
    for index, entry in enumerate(need_list(need(document, "packages"), "packages", MOST_PACKAGES)):
        path = f"packages[{index}]"
        need_mapping(entry, path)
        kind, address = _identify(entry, path)
        first = found.setdefault((kind, address), (path, entry))[1]
        if kind == "conda" and any(first.get(each) != entry.get(each) for each in ("sha256", "md5")):
            raise InputInvalid(path, f"{quote(address)} is there twice, with different hashes")
    return found


def _identify(entry: Mapping[str, Any], path: str) -> tuple[str, str]:
    """The kind and address of an entry."""
    kind = entry.get("kind")
    if kind in ("conda", "pypi"):
        # version 5
        address = entry.get("url") or entry.get("path")
        return str(kind), need_text(address, f"{path}.url", 5000)
    for kind in ("conda", "pypi", "conda_source"):
        if kind in entry:
            return kind, need_text(entry[kind], f"{path}.{kind}", 5000)
    raise InputInvalid(path, "it has none of the keys conda, pypi")


def _read_entry(
    entry: Any,
    path: str,
    platform: str,
    known: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]],
    reader: LockReader,
) -> None:
    kind, address = _identify(need_mapping(entry, path), path)
    url = _find_url(address, reader.settings)
    if kind == "conda_source" or (kind == "conda" and url is None):
        raise InputInvalid(
            path,
            f"{quote(address)} is source code or a path of your machine; only packages of channels can be had",
        )
    if (kind, address) not in known:
        raise InputInvalid(path, f"{quote(address)} is not among packages")
    place, package = known[kind, address]
    if kind == "pypi":
        reader.add_wheel(platform, address, _gather_wheel(package, package.get("sha256")), place)
        return
    reader.add(platform, url, _gather(package), place)


def _find_url(address: str, settings: InputSettings) -> str | None:
    """The URL of an archive. pixi writes a path for a file; None if that is in no channel of the server."""
    if "://" in address:
        return address
    if not address.startswith("/") or find_local_channel(address.rsplit("/", 2)[0], settings) is None:
        return None
    return f"file://{quote_path(address)}"


def _gather(package: Mapping[str, Any]) -> Facts:
    return Facts(
        sha256=package.get("sha256"),
        md5=package.get("md5"),
        size=package.get("size"),
        depends=package.get("depends"),
        constrains=package.get("constrains"),
        python_site_packages_path=package.get("python_site_packages_path"),
        noarch=package.get("noarch"),
        build_number=package.get("build_number"),
        agrees={key: package.get(key) for key in _AGREE},
    )


def _gather_wheel(package: Mapping[str, Any], sha256: Any) -> WheelFacts:
    return WheelFacts(sha256, package.get("size"), package.get("name"), package.get("version"))


def _read_channels(environment: Mapping[str, Any], path: str, settings: InputSettings) -> list[str]:
    entries = need_list(environment.get("channels") or [], f"{path}.channels", _MOST)
    channels: list[str] = []
    for index, entry in enumerate(entries):
        place = f"{path}.channels[{index}]"
        url = need_text(need(need_mapping(entry, place), "url", place), f"{place}.url")
        channels += resolve_channel(drop_login(url, f"{place}.url"), f"{place}.url", settings)
    return channels


def _read_old(
    document: Mapping[str, Any], settings: InputSettings, reader: LockReader, warnings: list[str]
) -> list[str]:
    """Likewise of versions 2 to 4."""
    metadata = need_mapping(need(document, "metadata"), "metadata")
    named = need_list(need(metadata, "platforms", "metadata"), "metadata.platforms", _MOST)
    names = [need_text(name, f"metadata.platforms[{index}]") for index, name in enumerate(named)]
    platforms = choose_built(
        choose_platforms(names, "metadata.platforms", warnings), settings, "metadata.platforms", warnings
    )
    for platform in platforms:
        reader.begin(platform)
    for path, entry in _list_old(document):
        platform = need_text(need(entry, "platform", path), f"{path}.platform")
        if platform not in platforms:
            continue
        hashes = need_mapping(need(entry, "hash", path), f"{path}.hash")
        if entry.get("manager") in ("pip", "pypi"):
            reader.add_wheel(platform, need(entry, "url", path), _gather_wheel(entry, hashes.get("sha256")), path)
            continue
        # its subdir was the environment's, also for noarch packages
        flat = {**entry, "subdir": None, "depends": entry.get("dependencies"), **hashes}
        reader.add(platform, need(entry, "url", path), _gather(flat), path)
    return _read_channels(metadata, "metadata", settings)


def _list_old(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, entry in enumerate(need_list(need(document, "package"), "package", MOST_PACKAGES)):
        yield f"package[{index}]", need_mapping(entry, f"package[{index}]")
