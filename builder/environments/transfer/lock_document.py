"""Reads the whole document of a lock that somebody else wrote: what a build of it may use, and nothing more.

Unlike the locks in `builder.environments.inputs`, it has all that the exporting server knew, so that the same lock has
the same key, and its image the same bytes. What it claims of licences and ages is compared with the archives before
anything is built of it (`builder.environments.transfer.remaking`).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builder.base.prefix_path import find_prefix_problem
from builder.channels.channel import check_form
from builder.channels.index_policy import check_index
from builder.environments.inputs.fields import join, need, need_list, need_mapping, need_text, refuse_others, take_text
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.locks.locked import MOST_PACKAGES, Facts, read_address, read_package, read_specs
from builder.environments.inputs.locks.locked_wheel import WheelFacts, read_wheel
from builder.environments.inputs.pip_part import read_requirement
from builder.environments.inputs.variables import read_variables
from builder.environments.transfer.document import need_number
from builder.errors import InputInvalid, InvalidImageName
from builder.locks.lock import WHEEL_PREFIX, Lock, LockedPackage
from builder.names.match_spec import parse_match_spec
from builder.names.requirement import canonicalize
from builder.names.spec import SPEC_FORMAT, EnvironmentSpec
from builder.platforms import OCI_PLATFORMS
from storage import strict_json
from storage.errors import quote

_LOCK = ("spec", "packages")
_SPEC = (
    *("format", "items", "channels", "platforms", "single", "virtual_packages", "until", "prefix", "owner"),
    *("variables", "base", "requirements", "indexes", "hashes"),
)
_ITEM = ("name", "channel", "constraints", "build", "alternatives")
_OPERATORS = (">", ">=", "<", "<=", "==", "!=", "=", "~=")
_PACKAGE = (
    *("name", "version", "build", "build_number", "subdir", "channel", "url", "file_name", "size", "sha256", "md5"),
    *("depends", "constrains", "license", "timestamp", "noarch", "python_site_packages_path", "since", "owner"),
)
_MOST_ITEMS = 4000
_MOST_CONSTRAINTS = 100
_MOST_CHANNELS = 100
_MOST_VIRTUAL = 100
_MOST_VARIABLES = 1000


def read_lock(content: bytes, settings: InputSettings) -> Lock:
    """Read a lock; it takes up to seconds. Raises InputInvalid, JsonInvalid.

    When a channel indexed a package is left out: it is no part of the key, so anybody could claim it.
    """
    document = need_mapping(strict_json.parse(content), "")
    refuse_others(document, _LOCK, "")
    spec = _read_spec(need_mapping(need(document, "spec"), "spec"))
    groups = need_mapping(need(document, "packages"), "packages")
    if sorted(groups) != sorted(spec.platforms):
        raise InputInvalid("packages", "they are of other platforms than the spec's")
    if sum(len(group) for group in groups.values() if isinstance(group, list)) > MOST_PACKAGES:
        raise InputInvalid("packages", f"they are more than {MOST_PACKAGES}")
    packages = {}
    for platform, group in groups.items():
        path = join("packages", platform)
        listed = [
            _read_package(each, platform, f"{path}[{index}]", settings)
            for index, each in enumerate(need_list(group, path, MOST_PACKAGES))
        ]
        if len({each.name for each in listed}) < len(listed):
            raise InputInvalid(path, "two packages have the same name")
        packages[platform] = tuple(listed)
    return Lock(spec, packages)


def _read_package(value: Any, platform: str, path: str, settings: InputSettings) -> LockedPackage:
    document = need_mapping(value, path)
    if str(document.get("name")).startswith(WHEEL_PREFIX):
        return _read_wheel(document, platform, path, settings)
    refuse_others(document, _PACKAGE, path)
    address = read_address(need(document, "url", path), f"{path}.url", settings)
    if address.had_credentials:
        raise InputInvalid(f"{path}.url", "it has credentials")
    agrees = {key: need(document, key, path) for key in ("name", "version", "build", "subdir", "file_name")}
    facts = {key: document.get(key) for key in ("sha256", "md5", "size", "depends", "constrains", "noarch")}
    package = read_package(
        address,
        Facts(
            **facts,
            python_site_packages_path=document.get("python_site_packages_path"),
            build_number=need(document, "build_number", path),
            agrees=agrees,
        ),
        platform,
        path,
    )
    timestamp = document.get("timestamp")
    return replace(
        package,
        channel=_read_channel(need(document, "channel", path), f"{path}.channel"),
        license=take_text(document, "license", path),
        timestamp=None if timestamp is None else need_number(timestamp, f"{path}.timestamp"),
        owner=take_text(document, "owner", path) or "",
    )


def _read_wheel(document: Mapping[str, Any], platform: str, path: str, settings: InputSettings) -> LockedPackage:
    """The same of a wheel.

    Its index has to be the one that its address is of, or else an archive could have any address fetched in the name of
    an index that is allowed.
    """
    refuse_others(document, (*_PACKAGE, "requires_python"), path)
    facts = WheelFacts(
        document.get("sha256"),
        document.get("size"),
        str(document["name"]).removeprefix(WHEEL_PREFIX),
        document.get("version"),
    )
    wheel = read_wheel(need(document, "url", path), facts, platform, path, settings)
    timestamp = document.get("timestamp")
    found = replace(
        wheel,
        depends=read_specs(document.get("depends"), f"{path}.depends"),
        license=take_text(document, "license", path),
        timestamp=None if timestamp is None else need_number(timestamp, f"{path}.timestamp"),
        requires_python=take_text(document, "requires_python", path),
        owner=take_text(document, "owner", path) or "",
    )
    for key, value in found.to_json().items():
        written = list(value) if isinstance(value, tuple) else value
        if key != "since" and document.get(key) != written:
            raise InputInvalid(f"{path}.{key}", f"it is {quote(str(document.get(key)))}, where it must be {written!r}")
    return found


def _read_spec(document: Mapping[str, Any]) -> EnvironmentSpec:
    """Read the spec of a lock. What its fields are made of is checked, and then that nothing was left out."""
    refuse_others(document, _SPEC, "spec")
    if document.get("format") != SPEC_FORMAT:
        raise InputInvalid("spec.format", f"it is {quote(str(document.get('format')))}; this condery has {SPEC_FORMAT}")
    for index, item in enumerate(need_list(need(document, "items", "spec"), "spec.items", _MOST_ITEMS)):
        _check_item(need_mapping(item, f"spec.items[{index}]"), f"spec.items[{index}]")
    for index, channel in enumerate(need_list(need(document, "channels", "spec"), "spec.channels", _MOST_CHANNELS)):
        _read_channel(channel, f"spec.channels[{index}]")
    _check_platforms(need_list(need(document, "platforms", "spec"), "spec.platforms", len(OCI_PLATFORMS)))
    _check_pairs(need(document, "virtual_packages", "spec"), "spec.virtual_packages", _MOST_VIRTUAL)
    if problem := find_prefix_problem(need_text(need(document, "prefix", "spec"), "spec.prefix", 200)):
        raise InputInvalid("spec.prefix", problem)
    take_text(document, "owner", "spec", 255)
    take_text(document, "base", "spec")
    _check_variables(document.get("variables"))
    _check_pypi(document)
    return _make_spec(document)


def _check_pypi(document: Mapping[str, Any]) -> None:
    """Check what a spec asks of indexes."""
    for index, each in enumerate(need_list(document.get("requirements") or [], "spec.requirements", MOST_PACKAGES)):
        path = f"spec.requirements[{index}]"
        if canonicalize(read_requirement(need_text(each, path), path)) != each:
            raise InputInvalid(path, "it is not written as condery writes requirements")
    for index, each in enumerate(need_list(document.get("indexes") or [], "spec.indexes", _MOST_CHANNELS)):
        try:
            check_index(need_text(each, f"spec.indexes[{index}]"))
        except ValueError as error:
            raise InputInvalid(f"spec.indexes[{index}]", str(error)) from None
    for name, hashes in need_mapping(document.get("hashes") or {}, "spec.hashes").items():
        path = join("spec.hashes", name)
        if not all(re.fullmatch("[0-9a-f]{64}", str(each)) for each in need_list(hashes, path, MOST_PACKAGES)):
            raise InputInvalid(path, "they must be sha256")


def _check_platforms(platforms: list[Any]) -> None:
    for platform in platforms:
        if not isinstance(platform, str) or platform not in OCI_PLATFORMS:
            raise InputInvalid("spec.platforms", f"no image can be made for {quote(str(platform))}")
    if not platforms:
        raise InputInvalid("spec.platforms", "there is none")


def _check_variables(value: Any) -> None:
    pairs = need_list(value or [], "spec.variables", _MOST_VARIABLES)
    if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise InputInvalid("spec.variables", "they must be pairs of a name and a value")
    read_variables(dict(pairs), "spec.variables")


def _make_spec(document: Mapping[str, Any]) -> EnvironmentSpec:
    """The spec, if its parts are match specs and dates, and it is written as condery writes it."""
    until = take_text(document, "until", "spec")
    if not isinstance(document.get("single"), bool):
        raise InputInvalid("spec.single", "it must be true or false")
    try:
        if until is not None:
            datetime.date.fromisoformat(until)
        spec = EnvironmentSpec.from_json(document)
        for item in spec.items:
            if parse_match_spec(item.match_spec()).name != item.name:
                raise InputInvalid("spec.items", f"{quote(item.match_spec())} is not a match spec")
    except (ValueError, InvalidImageName) as error:
        raise InputInvalid("spec", str(error)) from None
    if spec.to_json() != document:
        raise InputInvalid("spec", "it is not written as condery writes specs")
    return spec


def _check_item(item: Mapping[str, Any], path: str) -> None:
    refuse_others(item, _ITEM, path)
    need_text(need(item, "name", path), f"{path}.name")
    if need(item, "channel", path) is not None:
        _read_channel(item["channel"], f"{path}.channel")
    _check_constraints(need(item, "constraints", path), f"{path}.constraints")
    if need(item, "build", path) is not None:
        need_text(item["build"], f"{path}.build")
    for index, group in enumerate(need_list(item.get("alternatives", []), f"{path}.alternatives", _MOST_CONSTRAINTS)):
        _check_constraints(group, f"{path}.alternatives[{index}]")


def _check_constraints(value: Any, path: str) -> None:
    _check_pairs(value, path, _MOST_CONSTRAINTS)
    if any(operator not in _OPERATORS for operator, _ in value):
        raise InputInvalid(path, f"an operator is none of {' '.join(_OPERATORS)}")


def _check_pairs(value: Any, path: str, most: int) -> None:
    for index, pair in enumerate(need_list(value, path, most)):
        for text in need_list(pair, f"{path}[{index}]", 2):
            need_text(text, f"{path}[{index}]")
        if len(pair) != 2:
            raise InputInvalid(f"{path}[{index}]", "it must be a pair of texts")


def _read_channel(value: Any, path: str) -> str:
    channel = need_text(value, path)
    try:
        return check_form(channel)
    except ValueError as error:
        raise InputInvalid(path, str(error)) from None
