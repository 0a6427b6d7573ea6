"""A conda package: its content, and how to write it as a `.conda` file whose bytes depend on nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import zstandard

from builder.canonical import make_key
from storage.disk.files import atomic_write

FORMAT = 2
"""Part of every build string: raise it when the same sources give other bytes than before."""

PLACEHOLDER = ("/opt/sample_channel" + "_placehold" * 24)[:255]
"""Stands for the prefix. It is as long as conda-build's, the longest prefix that conda supports."""

OLDEST = 315532800
"""1980-01-01 in seconds, the earliest time that a zip archive can record."""

COMPRESSION_LEVEL = 4


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: its path, and its bytes, in memory or in a file that stays until the package is written."""

    path: str
    content: bytes | Path
    sha256: str
    size: int
    mtime: int
    executable: bool = False
    prefix: Literal["text", "binary"] | None = None

    @classmethod
    def of(
        cls,
        path: str,
        content: bytes | Path,
        mtime: int,
        *,
        executable: bool = False,
        prefix: Literal["text", "binary"] | None = None,
    ) -> File:
        """Make a File with the digest and size of the content as it is now."""
        if isinstance(content, bytes):
            digest, size = hashlib.sha256(content).hexdigest(), len(content)
        else:
            with content.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                size = stream.tell()
        return cls(path, content, digest, size, max(mtime, OLDEST), executable, prefix)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link whose target is relative to its own directory."""

    path: str
    target: str


Member = File | Link


@dataclass(frozen=True)
class Identity:
    """The content of index.json without the build string, which is derived from everything."""

    name: str
    version: str
    subdir: str
    depends: tuple[str, ...]
    timestamp: int
    """Seconds since 1970."""
    noarch: Literal["python", "generic"] | None = None
    license: str | None = None
    python_site_packages_path: str | None = None
    build_pattern: str = "h{key}_0"


@dataclass(frozen=True)
class Recipe:
    """A package that can be made: everything on which its bytes depend, and how to make its members.

    Two recipes with equal `identity`, `source` and `entry_points` make the same bytes, so an existing file of that name
    need not be made again.
    """

    identity: Identity
    source: Mapping[str, Any]
    members: Callable[[Path], Iterable[Member]]
    """Called with an empty directory for temporary files."""
    entry_points: tuple[str, ...] = ()
    """For a noarch python package: `command = module:function`."""
    about: Mapping[str, Any] = field(default_factory=dict)
    licenses: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def build(self) -> str:
        inputs = {
            "format": FORMAT,
            "identity": {key: value for key, value in vars(self.identity).items() if value is not None},
            "source": self.source,
            "entry_points": self.entry_points,
        }
        return self.identity.build_pattern.format(key=make_key("sample-package", inputs)[:8])

    @property
    def stem(self) -> str:
        return f"{self.identity.name}-{self.identity.version}-{self.build}"

    def path_in(self, channel: Path) -> Path:
        return channel / self.identity.subdir / f"{self.stem}.conda"


def write_package(recipe: Recipe, path: Path, work: Path) -> None:
    """Make the package of `recipe` at `path`. `work` is an empty directory for temporary files."""
    members = sorted(recipe.members(work), key=lambda member: member.path)
    with atomic_write(path, durable=False) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with _open_entry(archive, "metadata.json") as stream:
            stream.write(json.dumps({"conda_pkg_format_version": 2}).encode())
        with _open_entry(archive, f"pkg-{recipe.stem}.tar.zst") as stream:
            _write_tarball(stream, members)
        with _open_entry(archive, f"info-{recipe.stem}.tar.zst") as stream:
            _write_tarball(stream, _write_info(recipe, members))


def _open_entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    information = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    information.external_attr = (stat.S_IFREG | 0o644) << 16
    return archive.open(information, "w", force_zip64=True)


def _write_tarball(stream: IO[bytes], members: Iterable[Member]) -> None:
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    with (
        compressor.stream_writer(stream, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 18) as archive,
    ):
        for member in members:
            information = tarfile.TarInfo(member.path)
            if isinstance(member, Link):
                information.type, information.linkname, information.mode = tarfile.SYMTYPE, member.target, 0o777
                information.mtime = OLDEST
                archive.addfile(information)
                continue
            information.size, information.mtime = member.size, member.mtime
            information.mode = 0o755 if member.executable else 0o644
            with _open(member.content) as content:
                archive.addfile(information, content)


def _open(content: bytes | Path) -> IO[bytes]:
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)


def _write_info(recipe: Recipe, members: Sequence[Member]) -> list[Member]:
    documents: dict[str, Any] = {
        "about.json": {**recipe.about, "license": recipe.identity.license, "extra": {"source": recipe.source}},
        "index.json": _write_index(recipe),
        "paths.json": {"paths": _write_paths(members), "paths_version": 1},
    }
    if recipe.identity.noarch == "python":
        documents["link.json"] = {
            "noarch": {"type": "python", "entry_points": list(recipe.entry_points)},
            "package_metadata_version": 1,
        }
    contents = {name: json.dumps(document, indent=1, sort_keys=True).encode() for name, document in documents.items()}
    contents["files"] = "".join(f"{member.path}\n" for member in members).encode()
    contents.update({f"licenses/{name}": text for name, text in recipe.licenses.items()})
    timestamp = recipe.identity.timestamp
    return [File.of(f"info/{name}", content, timestamp) for name, content in sorted(contents.items())]


def _write_index(recipe: Recipe) -> dict[str, Any]:
    identity = recipe.identity
    architecture = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}.get(identity.subdir)
    document: dict[str, Any] = {
        "arch": architecture,
        "build": recipe.build,
        "build_number": 0,
        "depends": list(identity.depends),
        "license": identity.license,
        "name": identity.name,
        "noarch": identity.noarch,
        "platform": "linux" if architecture else None,
        "python_site_packages_path": identity.python_site_packages_path,
        "subdir": identity.subdir,
        "timestamp": identity.timestamp * 1000,
        "version": identity.version,
    }
    return {name: value for name, value in document.items() if value is not None or name in ("arch", "platform")}


def _write_paths(members: Sequence[Member]) -> list[dict[str, Any]]:
    files = {member.path: member for member in members if isinstance(member, File)}
    entries: list[dict[str, Any]] = []
    for member in members:
        # for a link, conda records the digest and size of its target
        target = files.get(_resolve_link(member)) if isinstance(member, Link) else member
        entry: dict[str, Any] = {
            "_path": member.path,
            "path_type": "softlink" if isinstance(member, Link) else "hardlink",
        }
        if target is not None:
            entry |= {"sha256": target.sha256, "size_in_bytes": target.size}
        if isinstance(member, File) and member.prefix:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": member.prefix}
        entries.append(entry)
    return entries


def _resolve_link(link: Link) -> str:
    return str(Path(link.path).parent / link.target)
