"""`environment.yaml` (CEP 24), with keys of ours: `description`, `platforms` and `extends`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from builder.environments.inputs.channels import merge, read_channels, resolve_channel
from builder.environments.inputs.comments import LEFT_OUT, leave_out
from builder.environments.inputs.fields import (
    describe,
    need,
    need_list,
    need_text,
    refuse_near,
    take_text,
    warn_of_others,
)
from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.pip_part import PipPart, read_pip_part
from builder.environments.inputs.selectors import read_platforms, read_selector
from builder.environments.inputs.variables import read_variables
from builder.errors import InputInvalid, InvalidImageName
from builder.names.match_spec import parse_match_spec
from builder.names.requirement import merge_requirements
from builder.names.spec import EnvironmentSpec, PackageItem, merge_items
from storage.errors import quote

KEYS = (
    *("name", "channels", "dependencies", "variables", "prefix"),
    *("platforms", "category", "description", "extends"),
)
NAME = re.compile(r"[A-Za-z0-9+_@$&?^~.=-]+")
_REFERENCE = re.compile(r"[A-Za-z0-9+_@$&?^~.=-]+/[A-Za-z0-9+_@$&?^~.=-]+")
MOST_DEPENDENCIES = 2000
LONGEST_NAME = 200
_LONGEST_DESCRIPTION = 10_000
_LONGEST_PATH = 4096
NO_COMMENTS: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass
class Dependencies:
    """What an environment asks for. `written` is its list in canonical form."""

    items: list[PackageItem] = field(default_factory=list)
    pip: PipPart = field(default_factory=PipPart)
    written: list[Any] = field(default_factory=list)


def read_environment_file(
    document: Any, settings: InputSettings, comments: Mapping[str, Sequence[str]] = NO_COMMENTS
) -> EnvironmentInput:
    """Read the values of an environment file, and the comments behind them, by path. Raises InputInvalid."""
    if document is None:
        raise InputInvalid("", "it is empty; an environment file has a name, channels and dependencies")
    if not isinstance(document, dict):
        raise InputInvalid(
            "", f"it must be a mapping with name, channels and dependencies, but it is {describe(document)}"
        )
    warnings: list[str] = []
    warn_of_others(document, KEYS, "", warnings)
    platforms = settings.platforms
    if document.get("platforms") is not None:
        platforms = read_platforms(document["platforms"], "platforms", warnings)
    document = leave_out(document, comments, platforms, warnings)
    name = _read_name(document, settings)
    named = document.get("channels", [])
    if named is None:
        raise InputInvalid("channels", "it is null; list channels such as conda-forge, or leave the key out")
    channels = read_channels(named, "channels", settings)
    refuse_near(document, "dependencies", KEYS)
    dependencies = read_dependencies(need(document, "dependencies"), "dependencies", settings, warnings)
    variables = read_variables(document.get("variables"))
    items = merge_items(dependencies.items)
    spec = EnvironmentSpec(
        items=items,
        channels=merge(channels, sorted({item.channel for item in items if item.channel})),
        platforms=tuple(sorted(set(platforms))),
        virtual_packages=variables.virtual_packages,
        prefix=settings.prefix,
        variables=variables.values,
        requirements=merge_requirements(dependencies.pip.requirements),
        indexes=dependencies.pip.list_indexes(settings.pypi_indexes),
    )
    return EnvironmentInput(
        InputKind.ENVIRONMENT,
        _write(document, name, dependencies.written, variables.document),
        spec,
        name=name,
        description=take_text_lines(document, "description"),
        category=take_text(document, "category"),
        pip=dependencies.pip.requirements,
        pip_options=dependencies.pip.options,
        extends=_read_extends(document),
        warnings=tuple(warnings),
    )


def check_name(name: str, path: str = "name") -> str:
    """Raises InputInvalid for what cannot be the name of an environment."""
    if not NAME.fullmatch(name):
        raise InputInvalid(
            path,
            f"{quote(name)} cannot be the name of an environment, which has letters, digits and + _ @ $ & ? ^ ~ . = -",
        )
    return name


def take_text_lines(document: Mapping[str, Any], key: str, path: str = "") -> str | None:
    """Text of several lines that may be missing, null or empty."""
    value = document.get(key)
    place = f"{path}.{key}" if path else key
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InputInvalid(place, f"it must be text, but it is {describe(value)}; put it in quotation marks")
    if len(value) > _LONGEST_DESCRIPTION:
        raise InputInvalid(place, f"it has {len(value)} characters; at most {_LONGEST_DESCRIPTION} are allowed")
    if not value.translate({ord("\n"): None, ord("\t"): None, ord("\r"): None}).isprintable():
        raise InputInvalid(place, "it has a control character")
    return value.strip() or None


def read_dependencies(value: Any, path: str, settings: InputSettings, warnings: list[str]) -> Dependencies:
    """Read match specs, `pip:` parts and selectors. Raises InputInvalid."""
    if value is None:
        raise InputInvalid(path, "it is null; list packages such as python=3.12, or write [] for none")
    found = Dependencies()
    for index, entry in enumerate(need_list(value, path, MOST_DEPENDENCIES)):
        place = f"{path}[{index}]"
        if entry is LEFT_OUT:
            continue
        if isinstance(entry, dict):
            _read_part(entry, place, settings, found)
            continue
        text = need_text(entry, place).strip()
        found.items.append(read_match_spec(text, place, settings))
        found.written.append(text)
    return found


def read_match_spec(text: str, path: str, settings: InputSettings) -> PackageItem:
    """Parse one match spec. Raises InputInvalid."""
    try:
        item = parse_match_spec(text)
    except InvalidImageName as error:
        raise InputInvalid(path, f"{quote(text)} is not a match spec: {error.reason}") from None
    if item.channel is None:
        return item
    (channel, *_) = resolve_channel(item.channel, path, settings)
    return PackageItem(item.name, channel, item.constraints, item.build, item.alternatives)


def _read_part(entry: Mapping[str, Any], path: str, settings: InputSettings, found: Dependencies) -> None:
    """Read a mapping among the dependencies, which has one key."""
    if len(entry) != 1:
        raise InputInvalid(path, "a mapping among the dependencies has one key, such as pip")
    ((key, value),) = entry.items()
    if key == "pip":
        part = read_pip_part(value, f"{path}.pip")
        before = found.pip
        found.pip = PipPart(before.requirements + part.requirements, before.options + part.options)
        if part.lines:
            found.written.append({"pip": list(part.lines)})
        return
    holds = read_selector(key)
    if holds is None:
        raise InputInvalid(
            path, f"{quote(key)} is not known here; a mapping is pip with a list, or a selector such as sel(linux)"
        )
    text = need_text(value, f"{path}[{quote(key)}]").strip()
    item = read_match_spec(text, f"{path}[{quote(key)}]", settings)
    if holds:
        found.items.append(item)
        found.written.append(text)


def _read_name(document: Mapping[str, Any], settings: InputSettings) -> str | None:
    if document.get("name") is None:
        if settings.needs_name:
            refuse_near(document, "name", KEYS)
            what = "null" if "name" in document else "missing"
            raise InputInvalid("name", f"it is {what}; give the environment a name")
        return None
    return check_name(need_text(document["name"], "name", LONGEST_NAME))


def _read_extends(document: Mapping[str, Any]) -> str | None:
    extends = take_text(document, "extends")
    if extends is not None and not _REFERENCE.fullmatch(extends):
        raise InputInvalid("extends", f"{quote(extends)} is not an environment, which is written namespace/environment")
    return extends


def _write(
    document: Mapping[str, Any], name: str | None, dependencies: Sequence[Any], variables: Mapping[str, str | int]
) -> dict[str, Any]:
    """Write the file in canonical form: each known key, with what conda ignores left as it is."""
    prefix = take_text(document, "prefix", longest=_LONGEST_PATH)
    optional = {
        "description": take_text_lines(document, "description"),
        "category": take_text(document, "category"),
        "platforms": document.get("platforms"),
        "extends": document.get("extends"),
    }
    return {
        "name": name,
        "prefix": prefix,
        "channels": [each for each in document.get("channels", []) if each is not LEFT_OUT],
        "dependencies": list(dependencies),
        "variables": dict(variables),
        **{key: value for key, value in optional.items() if value is not None},
    }
