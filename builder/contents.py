"""What a package puts where under the prefix, read from its archive's `info/` alone.

One `PackageContents` has its files as columns, not as objects: a build loads some 150 of them with 50 000 paths, and
that has to take tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

import orjson

from builder.archive import (
    DEFAULT_LIMITS,
    InfoFile,
    Limits,
    Part,
    check_member,
    checked_name,
    has_two_tars,
    payload,
    read_info,
    verify,
)
from builder.bounded_json import JsonRefused, load, load_trusted
from builder.canonical import key_of
from builder.errors import PackageRefused
from builder.lock import LockedPackage
from builder.prefix import Mode
from builder.tar import DIRECTORY, FILE, SYMLINK
from builder.tar_reader import Member
from builder.worker import working_on
from storage.files import atomic_write, note_use

FORMAT = 2
"""Part of every inspection's key: raise it when the same archive has to be read differently."""

DEFAULT_PLACEHOLDER = "/opt/" + "".join(f"anaconda{number}" for number in (1, 2, 3))
"""Written in parts, so that it is not itself taken for a placeholder when condery is packaged."""

Kind = Literal["file", "softlink", "directory"]

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
OWN_DIRECTORY = ".condery"
"""The folder under the prefix that no package may have."""

_RECORD = re.compile(r"conda-meta/([^/]+\.json|conda-lock\.yml|explicit\.txt)", re.DOTALL)
_LINK_SCRIPT = re.compile(r"bin/\.(?P<name>.+)-(pre-link|post-link|pre-unlink)\.sh")
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*")
_COMMAND = re.compile(r"[^/\\\0\s.][^/\\\0\n\r]*")
_KINDS = {"hardlink": "file", "softlink": "softlink", "directory": "directory"}

_LONGEST_PATH = 1024
"""Characters of a path under the prefix. Linux takes 4096 bytes, the prefix and whatever it is mounted at included."""
_LONGEST_PLACEHOLDER = 1024
"""Characters. conda-build's have 255."""
_LONGEST_LINE = 2 * _LONGEST_PATH + _LONGEST_PLACEHOLDER
"""Characters of a line of `info/has_prefix`."""
_OTHER_DOCUMENT = 4 << 20
"""Bytes of a document of `info/` that does not list paths."""
_VALUES_OF_A_PATH = 10
"""JSON values for each path of paths.json. conda-build writes up to seven."""
_ENTRY_POINTS = 10_000
_LINK_SCRIPTS = 20
_OUTLINE = frozenset(
    [
        "etc",
        "etc/conda",
        "etc/conda/env_vars.d",
        "etc/conda/activate.d",
        "conda-meta",
        "conda-meta/state",
        "bin/bash",
        "bin/dash",
        "bin/sh",
    ]
)
"""Paths under the prefix that decide how a container starts."""


@dataclass(frozen=True)
class PythonLayout:
    """Where noarch python packages go: the interpreter's `X.Y` and its site-packages under the prefix."""

    version: str
    site_packages: str

    @classmethod
    def of(cls, python: LockedPackage) -> Self:
        """The layout of a `python` package (CEP 17); raises PackageRefused for a record that makes no sense."""
        match = re.match(r"(\d+)\.(\d+)", python.version)
        if not match:
            raise PackageRefused(str(python), f"its version {python.version!r} does not begin with two numbers")
        version = f"{match[1]}.{match[2]}"
        site_packages = (python.python_site_packages_path or f"lib/python{version}/site-packages").rstrip("/")
        if len(f"{version}{site_packages}") > 200:
            raise PackageRefused(str(python), "its version and its python_site_packages_path are too long for a path")
        _check_paths(str(python), [site_packages])
        return cls(version, site_packages)

    @classmethod
    def among(cls, packages: Iterable[LockedPackage]) -> Self | None:
        """That of an environment's python, where it has one; raises PackageRefused likewise."""
        return next((cls.of(package) for package in packages if package.name == "python"), None)


class EntryPoint(NamedTuple):
    """A command of a noarch python package: `bin/<command>` calls `function` of `module`."""

    command: str
    module: str
    function: str


class Placeholder(NamedTuple):
    text: str
    mode: Mode


class ContentPath(NamedTuple):
    """One path of a package, as a row; size in bytes and hexadecimal sha256 are as packaged, before any replacement."""

    source: str
    target: str
    kind: Kind
    size: int | None
    sha256: str | None
    placeholder: Placeholder | None
    no_link: bool


@dataclass(frozen=True)
class PackageContents:
    """A package's paths in columns of equal length, and what else its `info/` says.

    `sources` are members of the archive, `targets` the same under the prefix (different for noarch python).
    """

    package: str
    """`name-version-build`, for messages."""
    sources: Sequence[str]
    targets: Sequence[str]
    kinds: str
    """One letter a path: `f`ile, `s`oftlink, `d`irectory."""
    sizes: Sequence[int | None]
    sha256: Sequence[str | None]
    placeholders: dict[int, Placeholder]
    """By the path's index; never of a softlink or a directory."""
    no_link: frozenset[int]
    directories: Sequence[str]
    """Every directory its paths need, parents first, without the prefix itself."""
    entry_points: Sequence[EntryPoint]
    link_scripts: Sequence[str]
    """Scripts that conda would run when it links the package, under the prefix. condery never runs them."""
    timestamp: int
    """When the package was made, seconds UTC."""
    noarch: str | None
    """`python`, `generic` or None, as the archive itself says."""
    parts: Sequence[Part] = ("pkg",)
    """Tars of the archive that hold what is installed."""
    python: PythonLayout | None = None
    """What `targets` and entry points were made for; None unless `noarch` is `python`."""

    def paths(self) -> Iterator[ContentPath]:
        kinds: dict[str, Kind] = {"f": "file", "s": "softlink", "d": "directory"}
        for index, (source, target) in enumerate(zip(self.sources, self.targets, strict=True)):
            yield ContentPath(
                source,
                target,
                kinds[self.kinds[index]],
                self.sizes[index],
                self.sha256[index],
                self.placeholders.get(index),
                index in self.no_link,
            )

    def installed(self) -> list[str]:
        """Paths under the prefix of all that is not a directory, entry points last."""
        paths: list[str]
        if "d" in self.kinds:
            paths = [target for target, kind in zip(self.targets, self.kinds, strict=True) if kind != "d"]
        else:
            paths = list(self.targets)
        paths += (f"bin/{entry.command}" for entry in self.entry_points)
        return paths

    def outline(self) -> Self:
        """Without most of its columns, which are too much to be passed between processes.

        Of `targets` and `directories` those are left that decide how a container starts.
        """
        return replace(
            self,
            sources=(),
            targets=sorted(_OUTLINE.intersection(self.targets)),
            kinds="",
            sizes=(),
            sha256=(),
            placeholders={},
            no_link=frozenset(),
            directories=sorted(_OUTLINE.intersection(self.directories)),
            entry_points=(),
        )


def inspect(
    path: Path, package: LockedPackage, python: PythonLayout | None, cache: Path, limits: Limits = DEFAULT_LIMITS
) -> PackageContents:
    """What the archive at `path` puts where, remembered in the folder `cache`.

    The archive is verified against its record before its first reading, and again when it is not the file it was; one
    that is gone is remembered. `python` matters to noarch python packages only. Raises PackageRefused.
    """
    name = str(package)
    remembered = cache / _cache_name(package)
    with working_on(name):
        document = _recall(remembered)
        state = _state(path)
        if document is None or (state and document.get("archive") != state):
            verify(path, name, package.size, package.sha256, package.md5)
            document = {**(document or _document(path, name, limits)), "archive": state}
            with atomic_write(remembered, durable=False, scratch=cache) as file:
                file.write(orjson.dumps(document))
        placed = _placed(_contents(name, document), python, limits)
        _check_reserved(placed)
        return placed


def inspect_all(
    packages: Sequence[LockedPackage], paths: Sequence[Path], python: PythonLayout | None, cache: Path, limits: Limits
) -> list[PackageContents]:
    """The outlines of several packages, so that a worker process is asked once for all of them."""
    return [
        inspect(path, package, python, cache, limits).outline() for package, path in zip(packages, paths, strict=True)
    ]


def _cache_name(package: LockedPackage) -> str:
    """Of the archive alone: where its files go in which python is worked out anew each time."""
    key = key_of("contents", [FORMAT, package.archive_key])
    return f"{key[:2]}/{key}.json"


def _recall(path: Path) -> dict[str, Any] | None:
    note_use(path)
    with contextlib.suppress(FileNotFoundError, JsonRefused):
        return cast(dict[str, Any], load_trusted(path.read_bytes()))
    return None


def _state(path: Path) -> list[int] | None:
    """What changes when the file does; None when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        return [status.st_ino, status.st_size, status.st_mtime_ns]
    return None


def _contents(name: str, document: dict[str, Any]) -> PackageContents:
    return PackageContents(
        package=name,
        sources=document["paths"],
        targets=document["paths"],
        kinds=document["kinds"],
        sizes=document["sizes"],
        sha256=document["sha256"],
        placeholders={index: Placeholder(text, mode) for index, text, mode in document["placeholders"]},
        no_link=frozenset(document["no_link"]),
        directories=document["directories"],
        entry_points=[EntryPoint(*entry) for entry in document["entry_points"]],
        link_scripts=document["link_scripts"],
        timestamp=document["timestamp"],
        noarch=document["noarch"],
        parts=document["parts"],
    )


def _placed(contents: PackageContents, python: PythonLayout | None, limits: Limits) -> PackageContents:
    """The contents with noarch python's paths moved to where `python` looks for them."""
    if contents.noarch != "python":
        return contents
    if python is None:
        raise PackageRefused(
            contents.package, "it is a noarch python package, and no python is in the environment; ask for python too"
        )
    site = f"{python.site_packages}/"
    targets = [
        site + source[14:]
        if source.startswith("site-packages/")
        else f"bin/{source[15:]}"
        if source.startswith("python-scripts/")
        else source
        for source in contents.sources
    ]
    placed = replace(contents, targets=targets, python=python)
    directories = _directories(contents.package, targets, contents.kinds, bool(contents.entry_points), limits)
    return replace(placed, directories=directories)


def _directories(package: str, targets: Sequence[str], kinds: str, scripts: bool, limits: Limits) -> list[str]:
    """The directories that `targets` need, parents first; raises PackageRefused where one is also a file or link.

    That is where a path would pass through a symbolic link of its own package.
    """
    found = {target.rpartition("/")[0] for target in targets}
    if scripts:
        found.add("bin")
    pending = list(found)
    text = 0
    while pending:
        parent = pending.pop().rpartition("/")[0]
        if parent not in found:
            found.add(parent)
            pending.append(parent)
            # a path of a thousand characters can have five hundred parents
            text += len(parent)
            if text > limits.text:
                raise PackageRefused(package, f"the directories of its paths have more than {limits.text} characters")
    found.discard("")
    if len(found) > limits.paths:
        raise PackageRefused(package, _too_many(len(found), "directories", limits))
    files = set(targets)
    if len(files) != len(targets):
        twice = Counter(targets).most_common(1)[0][0]
        raise PackageRefused(package, f"it lists {twice} twice")
    if "d" in kinds:
        explicit = {target for target, kind in zip(targets, kinds, strict=True) if kind == "d"}
        files -= explicit
        found |= explicit
    if both := found & files:
        raise PackageRefused(package, f"{min(both)} is a file or link in it, and yet has files below it")
    return sorted(found)


def _too_many(count: int, what: str, limits: Limits) -> str:
    return f"it has {count} {what}, where at most {limits.paths} are allowed (max_paths)"


def _check_amount(package: str, paths: Sequence[str], limits: Limits) -> None:
    """Raises PackageRefused for paths that are too many, or too long."""
    if len(paths) > limits.paths:
        raise PackageRefused(package, _too_many(len(paths), "paths", limits))
    if max(map(len, paths), default=0) > _LONGEST_PATH:
        longest = max(paths, key=len)
        raise PackageRefused(package, f"it lists a path of {len(longest)} characters, {longest[:60]!r}...")
    text = sum(map(len, paths))
    if text > limits.text:
        raise PackageRefused(package, f"its paths have {text} characters, where at most {limits.text} are allowed")


def _check_paths(package: str, paths: Sequence[str]) -> None:
    """Raises PackageRefused for a path that leads out of the prefix, or that an OCI layer takes for a whiteout."""
    joined = "/" + "/\n/".join(paths) + "/"
    suspicious = ("/../", "/./", "//", "/.wh.", "\0")
    if not any(part in joined for part in suspicious) and joined.count("\n") == max(len(paths) - 1, 0):
        return
    for path in paths:
        if "\n" in path or any(part in f"/{path}/" for part in suspicious):
            raise PackageRefused(package, f"it lists the path {path!r}, which cannot be installed under a prefix")


def _check_reserved(contents: PackageContents) -> None:
    """Raises PackageRefused for a path that condery itself writes into every environment."""
    for path in (OWN_DIRECTORY, "conda-meta", "conda-meta/history"):
        if path in contents.targets and (path != "conda-meta" or path not in contents.directories):
            raise PackageRefused(contents.package, f"it has the path {path}, which belongs to the environment itself")
    if OWN_DIRECTORY in contents.directories:
        raise PackageRefused(contents.package, f"it has files below {OWN_DIRECTORY}/, which belongs to condery")
    if "conda-meta" in contents.directories:
        for target in contents.targets:
            if _RECORD.fullmatch(target):
                raise PackageRefused(
                    contents.package, f"it has {target}, and what is installed is recorded there, not by a package"
                )


def _document(path: Path, name: str, limits: Limits) -> dict[str, Any]:
    """What is remembered of an archive, as JSON."""
    info = read_info(path, name, _INFO, _enough, limits)
    index = _json_object(name, info, "index.json")
    noarch = _noarch(name, index)
    entries = _entry_points(name, info) if noarch == "python" else []
    mtime = info["index.json"].mtime
    rows = _Rows(name)
    if "paths.json" in info:
        _read_paths_json(rows, _paths_document(name, info, limits), limits)
    elif "files" in info:
        _read_files(rows, info, path, limits)
    else:
        raise PackageRefused(name, "it has neither info/paths.json nor info/files")
    del info
    _check_amount(name, rows.paths, limits)
    _check_paths(name, rows.paths)
    kinds = "".join(rows.kinds)
    directories = _directories(name, rows.paths, kinds, bool(entries), limits)
    scripts = sorted(each for each in rows.paths if each.startswith("bin/.") and _LINK_SCRIPT.fullmatch(each))
    if len(scripts) > _LINK_SCRIPTS:
        raise PackageRefused(name, f"it has {len(scripts)} link scripts, where at most {_LINK_SCRIPTS} are allowed")
    return {
        "paths": rows.paths,
        "kinds": kinds,
        "sizes": rows.sizes,
        "sha256": rows.sha256,
        "placeholders": rows.placeholders,
        "no_link": rows.no_link,
        "directories": directories,
        "parts": ["pkg", "info"] if _info_tar_has(path, name, rows.paths, directories, limits) else ["pkg"],
        "entry_points": [list(entry) for entry in entries],
        "link_scripts": scripts,
        "timestamp": _timestamp(name, index, mtime),
        "noarch": noarch,
    }


def _info_tar_has(path: Path, name: str, paths: Sequence[str], directories: Sequence[str], limits: Limits) -> bool:
    """Whether something that is listed lies in the info tar of a `.conda`, outside `info/`.

    Raises PackageRefused when something there is in the way of what is listed.
    """
    if not has_two_tars(path, name):
        return False
    listed, ways = set(paths), {*directories, "info"}
    found = False
    with payload(path, name, limits, part="info") as members:
        for member in members:
            if member.name.startswith("info/") and member.kind == FILE:
                continue
            check_member(member)
            source = checked_name(member.name)
            found = found or source in listed
            check_way(name, source, member, ways)
    return found


def check_way(package: str, source: str, member: Member, ways: Container[str]) -> None:
    """Raises PackageRefused for a file or link where a directory has to be; `ways` are the directories of an archive.

    What is listed would be written or read through such a link by whoever unpacks the archive into a folder.
    """
    if member.kind != DIRECTORY and source in ways:
        raise PackageRefused(package, f"{source} is a file or link in its archive, and yet has files below it")


def _enough(found: dict[str, InfoFile]) -> bool:
    """Whether no other file of `info/` can change the outcome."""
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
        """Note the last path's placeholder; on links and directories it means nothing."""
        if mode not in ("text", "binary") or not text:
            raise PackageRefused(self.package, f"the placeholder of {self.paths[-1]} is neither text nor binary")
        if len(text) > _LONGEST_PLACEHOLDER:
            raise PackageRefused(self.package, f"the placeholder of {self.paths[-1]} has {len(text)} characters")
        if self.kinds[-1] == "f":
            self.placeholders.append((len(self.paths) - 1, text, mode))


def _paths_document(package: str, info: dict[str, InfoFile], limits: Limits) -> dict[str, Any]:
    """paths.json, which is taken out of `info`, so that its bytes go before its rows are made into columns."""
    values = _VALUES_OF_A_PATH * limits.paths
    return _json_object(package, {"paths.json": info.pop("paths.json")}, "paths.json", limits.info, values)


def _read_paths_json(rows: _Rows, document: dict[str, Any], limits: Limits) -> None:
    entries = document.get("paths")
    if document.get("paths_version") != 1 or not isinstance(entries, list):
        raise PackageRefused(rows.package, "its info/paths.json is not of paths_version 1")
    if len(entries) > limits.paths:
        raise PackageRefused(rows.package, _too_many(len(entries), "paths", limits))
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


def _read_files(rows: _Rows, info: dict[str, InfoFile], archive: Path, limits: Limits) -> None:
    """The listing of packages from before paths.json."""
    prefixes = {}
    for line in _lines(rows.package, info, "has_prefix", limits):
        words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', line)]
        if len(words) == 1:
            prefixes[words[0]] = (DEFAULT_PLACEHOLDER, "text")
        elif len(words) == 3:
            prefixes[words[2]] = (words[0], words[1].lower())
        else:
            raise PackageRefused(rows.package, f"its info/has_prefix has a line that makes no sense: {line!r}")
    copied = {*_lines(rows.package, info, "no_link", limits), *_lines(rows.package, info, "no_softlink", limits)}
    listed = _lines(rows.package, info, "files", limits)
    kinds = _member_kinds(archive, rows.package, frozenset(listed), limits)
    for path in listed:
        if path.startswith("info/"):
            continue
        rows.add(path, kinds.get(path, "file"), None, None, path in copied)
        if path in prefixes:
            rows.mark(*prefixes[path])


def _member_kinds(path: Path, name: str, listed: frozenset[str], limits: Limits) -> dict[str, str]:
    """What each member `listed` that is not a file is; `info/files` does not tell."""
    kinds = {}
    parts: tuple[Part, ...] = ("pkg", "info") if has_two_tars(path, name) else ("pkg",)
    for part in parts:
        with payload(path, name, limits, part=part) as members:
            for member in members:
                check_member(member)
                if member.kind in (SYMLINK, DIRECTORY) and (path_in := checked_name(member.name)) in listed:
                    kinds[path_in] = "softlink" if member.kind == SYMLINK else "directory"
    return kinds


def _lines(package: str, info: dict[str, InfoFile], name: str, limits: Limits) -> list[str]:
    if name not in info:
        return []
    content = info[name].content
    if (count := content.count(b"\n")) > limits.paths:
        raise PackageRefused(package, f"its info/{name} lists more: {_too_many(count, 'lines', limits)}")
    try:
        lines = [line for line in content.decode().split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise PackageRefused(package, f"its info/{name} is not UTF-8") from None
    if (longest := max(map(len, lines), default=0)) > _LONGEST_LINE:
        raise PackageRefused(package, f"its info/{name} has a line of {longest} characters")
    return lines


def _json_object(
    package: str, info: dict[str, InfoFile], name: str, size: int = _OTHER_DOCUMENT, values: int = 100_000
) -> dict[str, Any]:
    if name not in info:
        raise PackageRefused(package, f"it has no info/{name}")
    content = info[name].content
    if len(content) > size:
        raise PackageRefused(package, f"its info/{name} has {len(content)} bytes, where at most {size} are allowed")
    try:
        document = load(content, values=values)
    except JsonRefused as error:
        raise PackageRefused(package, f"its info/{name} {error}") from None
    if not isinstance(document, dict):
        raise PackageRefused(package, f"its info/{name} is not a JSON object")
    return document


def _noarch(package: str, index: dict[str, Any]) -> str | None:
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


def _entry_points(package: str, info: dict[str, InfoFile]) -> list[EntryPoint]:
    """The commands of a noarch python package, each checked: its names are written into code."""
    name = "link.json" if "link.json" in info else "package_metadata.json"
    if name not in info:
        return []
    noarch = _json_object(package, info, name).get("noarch")
    lines = noarch.get("entry_points") if isinstance(noarch, dict) else None
    if lines is None:
        return []
    if not isinstance(lines, list):
        raise PackageRefused(package, f"the entry points in its info/{name} are not a list")
    if len(lines) > _ENTRY_POINTS:
        raise PackageRefused(package, f"it has {len(lines)} entry points, where at most {_ENTRY_POINTS} are allowed")
    entries: dict[str, EntryPoint] = {}
    for line in lines:
        entry = _entry_point(package, line)
        entries[entry.command] = entry
    return list(entries.values())


def _entry_point(package: str, line: object) -> EntryPoint:
    if not isinstance(line, str) or len(line) > _LONGEST_PATH:
        raise PackageRefused(package, f"its info/ has an entry point that is no short text: {str(line)[:60]!r}")
    command, equals, target = line.partition("=")
    module, colon, function = target.partition(":")
    entry = EntryPoint(command.strip(), module.strip(), function.strip())
    if (
        not (equals and colon)
        or not _COMMAND.fullmatch(entry.command)
        or not _DOTTED.fullmatch(entry.module)
        or not _DOTTED.fullmatch(entry.function)
    ):
        raise PackageRefused(package, f"its entry point {line!r} is not of the form command = module:function")
    return entry


def _timestamp(package: str, index: dict[str, Any], fallback: int) -> int:
    """When the package was made, in seconds: milliseconds in its index, seconds in old ones, else that file's mtime."""
    timestamp = index.get("timestamp")
    if timestamp is None:
        return fallback
    if not isinstance(timestamp, int | float) or not 0 <= timestamp < 1 << 53:
        raise PackageRefused(package, f"its timestamp {timestamp!r} is not a time")
    return int(timestamp / 1000) if timestamp > 253402300799 else int(timestamp)
