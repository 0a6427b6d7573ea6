"""A package's own listing in `info/`: `paths.json`, or its equivalent in older packages, and the entry points.

The bytes and values of every document are counted before it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.archives.archive import (
    ArchiveLimits,
    InfoFile,
    Part,
    check_member,
    check_name,
    has_two_tars,
    payload,
    read_info,
)
from builder.archives.tar import DIRECTORY, FILE, SYMLINK
from builder.errors import PackageRefused
from builder.packages.bounded_json import JsonRefused, load
from builder.packages.contents import EntryPoint
from builder.packages.paths import LONGEST_PATH, check_amount, check_paths, check_way, describe_excess, list_directories

DEFAULT_PLACEHOLDER = "/opt/" + "".join(f"anaconda{number}" for number in (1, 2, 3))
"""Assembled from parts, so that nothing takes it for a placeholder when condery itself is packaged."""

_INFO = (
    "paths.json",
    "index.json",
    "link.json",
    "package_metadata.json",
    "files",
    "has_prefix",
    "no_link",
    "no_softlink",
)
_LINK_SCRIPT = re.compile(r"bin/\.(?P<name>.+)-(pre-link|post-link|pre-unlink)\.sh")
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*")
_COMMAND = re.compile(r"[^/\\\0\s.][^/\\\0\n\r]*")
_KINDS = {"hardlink": "file", "softlink": "softlink", "directory": "directory"}

_LONGEST_PLACEHOLDER = 1024
"""Characters. The placeholders of conda-build have 255."""
_LONGEST_LINE = 2 * LONGEST_PATH + _LONGEST_PLACEHOLDER
"""Characters in a line of `info/has_prefix`."""
_OTHER_DOCUMENT = 4 << 20
"""Bytes of a document in `info/` that does not list paths."""
_VALUES_OF_A_PATH = 10
"""JSON values per path in paths.json. conda-build writes up to seven."""
_ENTRY_POINTS = 10_000
_LINK_SCRIPTS = 20


def read_listing(path: Path, name: str, limits: ArchiveLimits) -> dict[str, Any]:
    """Read the facts to remember about an archive, as JSON. Raises PackageRefused."""
    found = read_info(path, name, _INFO, _is_enough, limits)
    info, strays = found.files, found.strays
    del found
    index = read_json(name, info, "index.json")
    noarch = read_noarch(name, index)
    entries = _read_entry_points(name, info) if noarch == "python" else []
    mtime = info["index.json"].mtime
    rows = _Rows(name)
    if "paths.json" in info:
        _read_paths_json(rows, _read_paths(name, info, limits), limits)
    elif "files" in info:
        _read_files(rows, info, path, limits)
    else:
        raise PackageRefused(name, "it has neither info/paths.json nor info/files")
    del info
    check_amount(name, rows.paths, limits)
    check_paths(name, rows.paths)
    kinds = "".join(rows.kinds)
    directories = list_directories(name, rows.paths, kinds, bool(entries), limits)
    in_both = strays and _has_info(path, name, rows.paths, directories, limits)
    parts = ["pkg", "info"] if in_both else ["pkg"]
    scripts = sorted(each for each in rows.paths if each.startswith("bin/.") and _LINK_SCRIPT.fullmatch(each))
    if len(scripts) > _LINK_SCRIPTS:
        raise PackageRefused(name, f"it has {len(scripts)} link scripts; at most {_LINK_SCRIPTS} are allowed")
    return {
        "paths": rows.paths,
        "kinds": kinds,
        "sizes": rows.sizes,
        "sha256": rows.sha256,
        "placeholders": rows.placeholders,
        "no_link": rows.no_link,
        "directories": directories,
        "parts": parts,
        "entry_points": [list(entry) for entry in entries],
        "link_scripts": scripts,
        "timestamp": _read_timestamp(name, index, mtime),
        "noarch": noarch,
    }


def _has_info(path: Path, name: str, paths: Sequence[str], directories: Sequence[str], limits: ArchiveLimits) -> bool:
    """Whether the info tar of a `.conda` holds a listed file outside `info/`.

    Raises PackageRefused if a member there is in the way of a listed file.
    """
    listed, ways = set(paths), {*directories, "info"}
    found = False
    with payload(path, name, limits, part="info") as members:
        for member in members:
            if member.name.startswith("info/") and member.kind == FILE:
                continue
            check_member(member)
            source = check_name(member.name)
            found = found or source in listed
            check_way(name, source, member, ways)
    return found


def _is_enough(found: dict[str, InfoFile]) -> bool:
    """Whether no other file in `info/` can change the result."""
    if "index.json" not in found or "paths.json" not in found:
        return False
    return "link.json" in found or b'"noarch"' not in found["index.json"].content


@dataclass
class _Rows:
    package: str
    paths: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    sizes: list[int | None] = field(default_factory=list)
    sha256: list[str | None] = field(default_factory=list)
    placeholders: list[tuple[int, str, str]] = field(default_factory=list)
    no_link: list[int] = field(default_factory=list)

    def add(self, path: str, kind: str, size: int | None, sha256: str | None, no_link: bool) -> None:
        if no_link:
            self.no_link.append(len(self.paths))
        self.paths.append(path)
        self.kinds.append(kind[0])
        self.sizes.append(size)
        self.sha256.append(sha256)

    def mark(self, text: str, mode: str) -> None:
        """Note the last path's placeholder. Links and directories have none, whatever the listing says."""
        if mode not in ("text", "binary") or not text:
            raise PackageRefused(self.package, f"the placeholder of {self.paths[-1]} is neither text nor binary")
        if len(text) > _LONGEST_PLACEHOLDER:
            raise PackageRefused(self.package, f"the placeholder of {self.paths[-1]} has {len(text)} characters")
        if self.kinds[-1] == "f":
            self.placeholders.append((len(self.paths) - 1, text, mode))


def _read_paths(package: str, info: dict[str, InfoFile], limits: ArchiveLimits) -> dict[str, Any]:
    """Take paths.json out of `info` and parse it. Its bytes are freed before its rows become columns."""
    values = _VALUES_OF_A_PATH * limits.paths
    return read_json(package, {"paths.json": info.pop("paths.json")}, "paths.json", limits.info, values)


def _read_paths_json(rows: _Rows, document: dict[str, Any], limits: ArchiveLimits) -> None:
    entries = document.get("paths")
    if document.get("paths_version") != 1 or not isinstance(entries, list):
        raise PackageRefused(rows.package, "its info/paths.json does not have paths_version 1")
    if len(entries) > limits.paths:
        raise PackageRefused(rows.package, describe_excess(len(entries), "paths", limits))
    try:
        for entry in entries:
            path: str = entry["_path"]
            if path.startswith("info/"):
                continue
            kind = _KINDS[entry.get("path_type", "hardlink")]
            if kind == "directory":
                path = path.rstrip("/")
            size, sha256 = entry.get("size_in_bytes"), entry.get("sha256")
            if not isinstance(path, str) or not isinstance(size, int | None) or not isinstance(sha256, str | None):
                raise TypeError
            if sha256 and len(sha256) != 64:
                raise TypeError(f"the sha256 of {path} has {len(sha256)} characters")
            rows.add(path, kind, size, sha256, bool(entry.get("no_link")))
            if placeholder := entry.get("prefix_placeholder"):
                rows.mark(str(placeholder), entry.get("file_mode", "text"))
    except (KeyError, TypeError, AttributeError) as error:
        raise PackageRefused(rows.package, f"its info/paths.json has an entry that makes no sense ({error})") from None


def _read_files(rows: _Rows, info: dict[str, InfoFile], archive: Path, limits: ArchiveLimits) -> None:
    """Read the listing of a package that is older than paths.json."""
    prefixes = {}
    for line in _read_lines(rows.package, info, "has_prefix", limits):
        words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', line)]
        if len(words) == 1:
            prefixes[words[0]] = (DEFAULT_PLACEHOLDER, "text")
        elif len(words) == 3:
            prefixes[words[2]] = (words[0], words[1].lower())
        else:
            raise PackageRefused(rows.package, f"its info/has_prefix has a line that makes no sense: {line!r}")
    copied = {
        *_read_lines(rows.package, info, "no_link", limits),
        *_read_lines(rows.package, info, "no_softlink", limits),
    }
    listed = _read_lines(rows.package, info, "files", limits)
    kinds = _find_kinds(archive, rows.package, frozenset(listed), limits)
    for path in listed:
        if path.startswith("info/"):
            continue
        rows.add(path, kinds.get(path, "file"), None, None, path in copied)
        if path in prefixes:
            rows.mark(*prefixes[path])


def _find_kinds(path: Path, name: str, listed: frozenset[str], limits: ArchiveLimits) -> dict[str, str]:
    """Find the kind of each `listed` member that is not a file, which `info/files` does not say."""
    kinds = {}
    parts: tuple[Part, ...] = ("pkg", "info") if has_two_tars(path, name) else ("pkg",)
    for part in parts:
        with payload(path, name, limits, part=part) as members:
            for member in members:
                check_member(member)
                if member.kind in (SYMLINK, DIRECTORY) and (path_in := check_name(member.name)) in listed:
                    kinds[path_in] = "softlink" if member.kind == SYMLINK else "directory"
    return kinds


def _read_lines(package: str, info: dict[str, InfoFile], name: str, limits: ArchiveLimits) -> list[str]:
    if name not in info:
        return []
    content = info[name].content
    if (count := content.count(b"\n")) > limits.paths:
        raise PackageRefused(package, f"its info/{name} is too long: {describe_excess(count, 'lines', limits)}")
    try:
        lines = [line for line in content.decode().split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise PackageRefused(package, f"its info/{name} is not UTF-8") from None
    if (longest := max(map(len, lines), default=0)) > _LONGEST_LINE:
        raise PackageRefused(package, f"its info/{name} has a line of {longest} characters")
    return lines


def read_json(
    package: str, info: dict[str, InfoFile], name: str, size: int = _OTHER_DOCUMENT, values: int = 100_000
) -> dict[str, Any]:
    """Parse one document of `info/`. Raises PackageRefused, also for one that has no object."""
    if name not in info:
        raise PackageRefused(package, f"it has no info/{name}")
    content = info[name].content
    if len(content) > size:
        raise PackageRefused(package, f"its info/{name} has {len(content)} bytes; at most {size} are allowed")
    try:
        document = load(content, values=values)
    except JsonRefused as error:
        raise PackageRefused(package, f"its info/{name} {error}") from None
    if not isinstance(document, dict):
        raise PackageRefused(package, f"its info/{name} is not a JSON object")
    return document


def read_noarch(package: str, index: dict[str, Any]) -> str | None:
    """The kind of a noarch package, `python` or `generic`, by its `info/index.json`. Raises PackageRefused."""
    if index.get("noarch_python"):
        raise PackageRefused(
            package,
            "it is an old-style noarch_python package, which only its own link script can install; use a newer one",
        )
    noarch = index.get("noarch")
    if not noarch:
        return None
    # Before noarch had kinds, `true` meant what `generic` means now.
    return "python" if noarch == "python" else "generic"


def _read_entry_points(package: str, info: dict[str, InfoFile]) -> list[EntryPoint]:
    """Read the commands of a noarch python package. Each is checked because its names are written into code."""
    name = "link.json" if "link.json" in info else "package_metadata.json"
    if name not in info:
        return []
    noarch = read_json(package, info, name).get("noarch")
    lines = noarch.get("entry_points") if isinstance(noarch, dict) else None
    if lines is None:
        return []
    if not isinstance(lines, list):
        raise PackageRefused(package, f"the entry points in its info/{name} are not a list")
    if len(lines) > _ENTRY_POINTS:
        raise PackageRefused(package, f"it has {len(lines)} entry points; at most {_ENTRY_POINTS} are allowed")
    entries: dict[str, EntryPoint] = {}
    for line in lines:
        entry = _parse_entry_point(package, line)
        entries[entry.command] = entry
    return list(entries.values())


def _parse_entry_point(package: str, line: object) -> EntryPoint:
    if not isinstance(line, str) or len(line) > LONGEST_PATH:
        raise PackageRefused(package, f"one of its entry points is not a short string: {str(line)[:60]!r}")
    command, equals, target = line.partition("=")
    module, colon, function = target.partition(":")
    entry = EntryPoint(command.strip(), module.strip(), function.strip())
    if (
        not (equals and colon)
        or not _COMMAND.fullmatch(entry.command)
        or not _DOTTED.fullmatch(entry.module)
        or not _DOTTED.fullmatch(entry.function)
    ):
        raise PackageRefused(package, f"its entry point {line!r} does not have the form command = module:function")
    return entry


def _read_timestamp(package: str, index: dict[str, Any], fallback: int) -> int:
    """Return when the package was built, in seconds.

    Its index has milliseconds, or seconds if it is old; without either, it is that file's mtime.
    """
    timestamp = index.get("timestamp")
    if timestamp is None:
        return fallback
    if not isinstance(timestamp, int | float) or not 0 <= timestamp < 1 << 53:
        raise PackageRefused(package, f"its timestamp {timestamp!r} is not a time")
    return int(timestamp / 1000) if timestamp > 253402300799 else int(timestamp)
