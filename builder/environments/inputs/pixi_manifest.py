"""`pixi.toml`, and `pyproject.toml` with `[tool.pixi]`: the default environment of a workspace."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.environments.inputs.channels import merge, read_channels, resolve_channel
from builder.environments.inputs.environment_file import (
    LONGEST_NAME,
    MOST_DEPENDENCIES,
    check_name,
    read_match_spec,
    take_text_lines,
)
from builder.environments.inputs.fields import describe, join, need, need_list, need_mapping, need_text
from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.pip_part import read_requirement
from builder.environments.inputs.selectors import read_platforms
from builder.environments.inputs.variables import CUDA, read_variables
from builder.errors import InputInvalid
from builder.names.requirement import merge_requirements
from builder.names.spec import EnvironmentSpec, PackageItem, merge_items
from storage.errors import quote

DEFAULT = "default"
LARGEST = 256 << 10
"""Bytes. Real ones have a few thousand; a hostile one of a megabyte takes tomllib long."""
DEPTH = 12
_DEEP = re.compile(r"""\[{13}|(?<![\w"'-])(?:[\w"'-]++[ \t]*\.[ \t]*){13}""")
"""tomllib calls itself for each level of lists, and copies the beginning of a key for each of its parts."""
_MOST_FEATURES = 100

_DEPENDENCIES = ("dependencies", "host-dependencies", "build-dependencies", "run-dependencies")
_SPEC_KEYS = ("version", "build", "channel", "build-number", "file-name", "md5", "sha256", "subdir", "license")
_SUPPORTED = ("version", "build", "channel")
_SOURCES = ("path", "git", "url")
_PYPI_KEYS = ("version", "extras", "index", "markers", "env-markers")
_TARGET = {"linux": True, "unix": True, "osx": False, "win": False}


def read_pixi_manifest(text: str, settings: InputSettings) -> EnvironmentInput:
    """Read a manifest. Raises InputInvalid."""
    document = _parse(text)
    path, manifest = "", document
    if "tool" in document:
        path = "tool.pixi"
        tool = need_mapping(document["tool"], "tool")
        if "pixi" not in tool:
            raise InputInvalid(path, "it is missing: this pyproject.toml describes no environment")
        manifest = need_mapping(tool["pixi"], path)
    workspace_key = "workspace" if "workspace" in manifest else "project"
    workspace_path = join(path, workspace_key)
    workspace = need_mapping(need(manifest, workspace_key, path), workspace_path)
    warnings: list[str] = []
    channels = _read_channels(need(workspace, "channels", workspace_path), f"{workspace_path}.channels", settings)
    platforms = read_platforms(need(workspace, "platforms", workspace_path), f"{workspace_path}.platforms", warnings)
    chosen = tuple(each for each in platforms if each in settings.platforms) or platforms
    if len(chosen) < len(platforms):
        left = ", ".join(each for each in platforms if each not in chosen)
        warnings.append(f"{workspace_path}.platforms: this server builds for {', '.join(chosen)}; left out: {left}")
    wanted = _Wanted(settings)
    for place, feature in _list_features(manifest, path, warnings):
        wanted.add_feature(feature, place, chosen)
    project = need_mapping(document.get("project") or {}, "project") if path else {}
    for index, each in enumerate(
        need_list(project.get("dependencies") or [], "project.dependencies", MOST_DEPENDENCIES)
    ):
        place = f"project.dependencies[{index}]"
        wanted.pip.append(read_requirement(need_text(each, place), place))
    return _make(wanted, channels, chosen, _read_name(workspace, workspace_path, project), workspace, warnings)


def _parse(text: str) -> dict[str, Any]:
    if len(text) > LARGEST:
        raise InputInvalid("", f"it has {len(text)} characters; at most {LARGEST} are allowed of a manifest")
    if _DEEP.search(text):
        raise InputInvalid("", f"it is nested deeper than {DEPTH} levels")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputInvalid("", f"it is not TOML: {str(error)[:200]}") from None
    except RecursionError:
        raise InputInvalid("", f"it is nested deeper than {DEPTH} levels") from None


def _read_channels(value: Any, path: str, settings: InputSettings) -> tuple[str, ...]:
    """A manifest's channels are all that its environments use. Each is text, or a table with its priority."""
    entries = need_list(value, path, 100)
    rows: list[tuple[int, int, str]] = []
    for index, entry in enumerate(entries):
        place = f"{path}[{index}]"
        priority = 0
        if isinstance(entry, dict):
            number = entry.get("priority", 0)
            if not isinstance(number, int):
                raise InputInvalid(f"{place}.priority", f"it must be a number, but it is {describe(number)}")
            priority, entry = number, need(entry, "channel", place)
        rows.append((-priority, index, need_text(entry, place)))
    ordered = [name for _, _, name in sorted(rows)]
    if not ordered:
        raise InputInvalid(path, "it is empty, so there is nothing to take packages from")
    return read_channels([*ordered, "nodefaults"], path, settings)


def _read_name(workspace: Mapping[str, Any], path: str, project: Mapping[str, Any]) -> str | None:
    if workspace.get("name") is not None:
        return check_name(need_text(workspace["name"], f"{path}.name", LONGEST_NAME), f"{path}.name")
    if project.get("name") is not None:
        return check_name(need_text(project["name"], "project.name", LONGEST_NAME), "project.name")
    return None


def _list_features(
    manifest: Mapping[str, Any], path: str, warnings: list[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The default feature, which is the manifest itself, and the features that the environment `default` adds."""
    environments = need_mapping(manifest.get("environments") or {}, join(path, "environments"))
    features = need_mapping(manifest.get("feature") or {}, join(path, "feature"))
    place = join(join(path, "environments"), DEFAULT)
    entry = environments.get(DEFAULT, [])
    names, own = entry, True
    if isinstance(entry, dict):
        names, own = entry.get("features", []), not entry.get("no-default-feature", False)
    others = [quote(name, 40) for name in environments if name != DEFAULT]
    if others:
        warnings.append(f"{join(path, 'environments')}: {DEFAULT} is built; left out: {', '.join(others[:10])}")
    if own:
        yield path, manifest
    for index, name in enumerate(need_list(names, place, _MOST_FEATURES)):
        feature = need_text(name, f"{place}[{index}]")
        if feature not in features:
            raise InputInvalid(f"{place}[{index}]", f"there is no feature {quote(feature)}")
        at = join(join(path, "feature"), feature)
        yield at, need_mapping(features[feature], at)


@dataclass
class _Wanted:
    """What the features of the environment ask for together."""

    settings: InputSettings
    items: list[PackageItem] = field(default_factory=list)
    pip: list[str] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    cuda: str = ""

    def add_feature(self, feature: Mapping[str, Any], path: str, platforms: Sequence[str]) -> None:
        if path.rpartition(".")[0].endswith("feature") and feature.get("channels") is not None:
            self.channels += _read_channels(feature["channels"], join(path, "channels"), self.settings)
        requirements = need_mapping(feature.get("system-requirements") or {}, join(path, "system-requirements"))
        if requirements.get("cuda") is not None:
            self.cuda = str(requirements["cuda"])
        for table, place in _list_tables(feature, path, platforms):
            self._add_table(table, place)

    def _add_table(self, table: Mapping[str, Any], path: str) -> None:
        for key in _DEPENDENCIES:
            place = join(path, key)
            for name, value in _take_table(table, key, place).items():
                self.items.append(self._read_spec(name, value, join(place, name)))
        place = join(path, "pypi-dependencies")
        for name, value in _take_table(table, "pypi-dependencies", place).items():
            self.pip.append(_read_pypi(name, value, join(place, name)))
        activation = _take_table(table, "activation", join(path, "activation"))
        self.variables |= _take_table(activation, "env", join(join(path, "activation"), "env"))
        if activation.get("scripts"):
            raise InputInvalid(
                join(join(path, "activation"), "scripts"),
                "scripts of your machine cannot be run here; set variables in env",
            )

    def _read_spec(self, name: str, value: Any, path: str) -> PackageItem:
        """A match spec: its version as text, or a table."""
        table = {"version": value} if isinstance(value, str) else need_mapping(value, path)
        for key in _SOURCES:
            if key in table and key not in _SPEC_KEYS:
                raise InputInvalid(
                    join(path, key), "it is built from source code or taken from elsewhere; name a package of a channel"
                )
        for key in table:
            if key not in _SUPPORTED:
                raise InputInvalid(join(path, key), f"it is not supported; a package has {', '.join(_SUPPORTED)}")
        version = need_text(table.get("version", "*"), join(path, "version"))
        brackets = []
        if table.get("build") is not None:
            brackets.append(f"build='{need_text(table['build'], join(path, 'build'))}'")
        # pixi reads 1.2 as 1.2 exactly, and 1.2.* as all that start with it
        text = f"{name} {version}" + (f"[{','.join(brackets)}]" if brackets else "")
        item = read_match_spec(text, path, self.settings)
        if item.name != name.lower():
            raise InputInvalid(path, f"{quote(name)} is not the name of a package")
        if table.get("channel") is None:
            return item
        channel = need_text(table["channel"], join(path, "channel"))
        (resolved, *_) = resolve_channel(channel, join(path, "channel"), self.settings)
        return PackageItem(item.name, resolved, item.constraints, item.build, item.alternatives)


def _take_table(table: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
    found = need_mapping(table.get(key) or {}, path)
    if len(found) > MOST_DEPENDENCIES:
        raise InputInvalid(path, f"it has {len(found)} entries; at most {MOST_DEPENDENCIES} are allowed")
    return found


def _list_tables(
    feature: Mapping[str, Any], path: str, platforms: Sequence[str]
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The feature itself, and its targets that all `platforms` fulfil. Raises InputInvalid if only some do."""
    yield feature, path
    for name, value in need_mapping(feature.get("target") or {}, join(path, "target")).items():
        place = join(join(path, "target"), name)
        table = need_mapping(value, place)
        holds = _TARGET.get(name)
        if holds is None:
            fulfilled = [platform for platform in platforms if platform == name]
            if fulfilled and len(fulfilled) < len(platforms):
                raise InputInvalid(
                    place,
                    f"it is for {name} alone, but all platforms of an environment ask for the same packages here; "
                    f"leave one of {', '.join(platforms)} out",
                )
            holds = bool(fulfilled)
        if holds:
            yield table, place


def _read_pypi(name: str, value: Any, path: str) -> str:
    """A requirement of a PyPI package, from its version as text or a table."""
    table = {"version": value} if isinstance(value, str) else need_mapping(value, path)
    for key in _SOURCES:
        if key in table:
            raise InputInvalid(join(path, key), "it is source code or a path of your machine; name a package of PyPI")
    for key in table:
        if key not in _PYPI_KEYS:
            raise InputInvalid(join(path, key), f"it is not supported; the keys are {', '.join(_PYPI_KEYS[:2])}")
    extras = need_list(table.get("extras") or [], join(path, "extras"), 50)
    inside = ",".join(need_text(each, join(path, "extras")) for each in extras)
    version = need_text(table.get("version", "*"), join(path, "version")).strip()
    marker = table.get("env-markers") or table.get("markers")
    suffix = f" ; {need_text(marker, join(path, 'markers'))}" if marker is not None else ""
    constraint = "" if version == "*" else f"=={version}" if version[0].isdigit() else version
    return read_requirement(f"{name}{f'[{inside}]' if inside else ''}{constraint}{suffix}", path)


def _make(
    wanted: _Wanted,
    channels: Iterable[str],
    platforms: tuple[str, ...],
    name: str | None,
    workspace: Mapping[str, Any],
    warnings: list[str],
) -> EnvironmentInput:
    written = {**wanted.variables, **({CUDA: wanted.cuda} if wanted.cuda else {})}
    variables = read_variables(written, "activation.env")
    items = merge_items(wanted.items)
    spec = EnvironmentSpec(
        items=items,
        channels=merge(wanted.channels, channels, sorted({item.channel for item in items if item.channel})),
        platforms=tuple(sorted(platforms)),
        virtual_packages=variables.virtual_packages,
        prefix=wanted.settings.prefix,
        variables=variables.values,
        requirements=merge_requirements(wanted.pip),
    )
    description = take_text_lines(workspace, "description")
    pip = tuple(dict.fromkeys(wanted.pip))
    document: dict[str, Any] = {
        "name": name,
        "prefix": None,
        "channels": list(spec.channels),
        "dependencies": [*spec.match_specs(), *([{"pip": list(pip)}] if pip else [])],
        "variables": dict(variables.document),
        "platforms": list(spec.platforms),
        **({"description": description} if description else {}),
    }
    return EnvironmentInput(
        InputKind.PIXI_MANIFEST,
        document,
        spec,
        name=name,
        description=description,
        pip=pip,
        warnings=tuple(warnings),
    )


def is_pixi_manifest(text: str, file_name: str | None) -> bool:
    """By its name, or by a table that every manifest has."""
    if file_name is not None and file_name.endswith((".toml", ".yaml", ".yml")):
        return file_name.endswith(".toml")
    return re.search(r"(?m)^[ \t]*\[(?:workspace|project|tool\.pixi(?:\.\w+)?)\]", text) is not None
