"""Small real conda packages for tests: `Package(...).conda(folder)` or `.tar_bz2(folder)`."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rattler
import zstandard

from builder.locks.lock import LockedPackage
from builder.packages.contents import PythonLayout

TIME = 1_600_000_000
"""The mtime of every member, in seconds."""

PLACEHOLDER = "/opt/built/" + "placehold_" * 12

PYTHON = PythonLayout("3.11", "lib/python3.11/site-packages")


@dataclass(frozen=True)
class File:
    """A member that is a file; `placeholder` ("text" or "binary") goes into its paths.json entry."""

    content: bytes = b""
    mode: int = 0o664
    placeholder: str | None = None
    prefix: str = PLACEHOLDER
    mtime: int = TIME
    listed: bool = True


@dataclass(frozen=True)
class Link:
    """A symbolic link, or a hard link to the member `target`."""

    target: str
    hard: bool = False
    placeholder: str | None = None
    prefix: str = PLACEHOLDER
    listed: bool = True


@dataclass(frozen=True)
class Directory:
    listed: bool = True


Entry = bytes | File | Link | Directory


@dataclass(frozen=True)
class Package:
    """A package to make; omitted fields have plain values. `info` replaces files of `info/`; None removes one."""

    name: str = "sample"
    version: str = "1.0"
    build: str = "0"
    files: Mapping[str, Entry] = field(default_factory=dict)
    depends: Sequence[str] = ()
    noarch: str | None = None
    subdir: str | None = None
    entry_points: Sequence[str] = ()
    timestamp: int | None = TIME * 1000
    info: Mapping[str, bytes | None] = field(default_factory=dict)
    python_site_packages_path: str | None = None
    license: str | None = None

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    def index(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": 0,
            "depends": list(self.depends),
            "subdir": self._subdir,
        }
        if self.timestamp is not None:
            document["timestamp"] = self.timestamp
        if self.noarch:
            document["noarch"] = self.noarch
        if self.license:
            document["license"] = self.license
        if self.python_site_packages_path:
            document["python_site_packages_path"] = self.python_site_packages_path
        return document

    def paths_json(self) -> dict[str, Any]:
        rows = [_row(path, entry) for path, entry in sorted(self._entries().items()) if entry.listed]
        return {"paths": rows, "paths_version": 1}

    def info_files(self) -> dict[str, bytes]:
        files: dict[str, bytes | None] = {
            "about.json": b"{}",
            "index.json": json.dumps(self.index()).encode(),
            "paths.json": json.dumps(self.paths_json()).encode(),
        }
        if self.noarch == "python":
            noarch = {"type": "python", "entry_points": list(self.entry_points)}
            files["link.json"] = json.dumps({"noarch": noarch, "package_metadata_version": 1}).encode()
        files.update(self.info)
        return {f"info/{name}": content for name, content in files.items() if content is not None}

    def conda(self, folder: Path) -> Made:
        info = pack({name: File(content) for name, content in self.info_files().items()})
        parts = {
            "metadata.json": b'{"conda_pkg_format_version": 2}',
            f"pkg-{self.stem}.tar.zst": zstandard.compress(pack(self._entries())),
            f"info-{self.stem}.tar.zst": zstandard.compress(info),
        }
        return self.made(folder, f"{self.stem}.conda", zip_parts(parts))

    def tar_bz2(self, folder: Path, *, info_last: bool = False) -> Made:
        info: dict[str, Entry] = {name: File(content) for name, content in self.info_files().items()}
        entries = {**self._entries(), **info} if info_last else {**info, **self._entries()}
        return self.made(folder, f"{self.stem}.tar.bz2", bz2.compress(pack(entries)))

    def made(self, folder: Path, file_name: str, content: bytes) -> Made:
        """Write `content` as this package's archive, with a matching record."""
        target = folder / self._subdir
        target.mkdir(parents=True, exist_ok=True)
        path = target / file_name
        path.write_bytes(content)
        record = LockedPackage(
            name=self.name,
            version=self.version,
            build=self.build,
            build_number=0,
            subdir=self._subdir,
            channel=folder.as_uri(),
            url=path.as_uri(),
            file_name=file_name,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
            depends=tuple(self.depends),
            timestamp=self.timestamp,
            noarch=self.noarch,
            python_site_packages_path=self.python_site_packages_path,
        )
        return Made(path, record)

    @property
    def _subdir(self) -> str:
        return self.subdir or ("noarch" if self.noarch else "linux-64")

    def _entries(self) -> dict[str, File | Link | Directory]:
        return {path: File(entry) if isinstance(entry, bytes) else entry for path, entry in self.files.items()}


@dataclass(frozen=True)
class Made:
    """An archive on disk, and the record that a channel would have for it."""

    path: Path
    record: LockedPackage

    def repodata_record(self) -> rattler.RepoDataRecord:
        """The record in rattler's form."""
        package = rattler.PackageRecord(
            self.record.name,
            self.record.version,
            rattler.BuildString(self.record.build),
            self.record.build_number,
            self.record.subdir,
            noarch=self.record.noarch,  # type: ignore[arg-type]  # one of its literals
            depends=list(self.record.depends),
            sha256=bytes.fromhex(self.record.sha256 or ""),
            size=self.record.size,
            python_site_packages_path=self.record.python_site_packages_path,
        )
        return rattler.RepoDataRecord(package, self.record.file_name, self.record.url, self.record.channel)


async def install(packages: Sequence[Made], target: Path, prefix: str) -> Path:
    """Let rattler install the packages into `target` as if it were `prefix`; returns `target`."""
    await rattler.install(
        [made.repodata_record() for made in packages],
        target,
        cache_dir=target.with_name(f"{target.name}-cache"),
        platform=rattler.Subdir("linux-64"),
        show_progress=False,
        alternative_target_prefix=prefix,
    )
    return target


def write_channel(directory: Path, packages: Sequence[Package]) -> None:
    """Write a channel of `packages`; its index has their true hashes, whether they are sound or not."""
    records: dict[str, dict[str, object]] = {"linux-64": {}, "linux-s390x": {}, "noarch": {}}
    for package in packages:
        made = package.conda(directory).record
        hashes = {"sha256": made.sha256, "md5": made.md5, "size": made.size}
        records[made.subdir][made.file_name] = package.index() | hashes
    for subdir, entries in records.items():
        document = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": entries, "repodata_version": 1}
        (directory / subdir).mkdir(parents=True, exist_ok=True)
        (directory / subdir / "repodata.json").write_text(json.dumps(document))


def installed_paths(target: Path) -> list[str]:
    """The files and links that packages installed under `target`, sorted."""
    paths = [str(path.relative_to(target)) for path in target.rglob("*") if path.is_symlink() or path.is_file()]
    own = ("conda-meta/", "__clobbers__/", ".", "CACHEDIR.TAG")
    return sorted(path for path in paths if not path.startswith(own))


def _row(path: str, entry: File | Link | Directory) -> dict[str, Any]:
    kind = "hardlink"
    if isinstance(entry, Directory):
        kind = "directory"
    elif isinstance(entry, Link) and not entry.hard:
        kind = "softlink"
    row: dict[str, Any] = {"_path": path, "path_type": kind}
    if isinstance(entry, File):
        row |= {"sha256": hashlib.sha256(entry.content).hexdigest(), "size_in_bytes": len(entry.content)}
    if not isinstance(entry, Directory) and entry.placeholder:
        row |= {"prefix_placeholder": entry.prefix, "file_mode": entry.placeholder}
    return row


def pack(
    entries: Mapping[str, Entry] | Sequence[tuple[str, Entry]],
    change: Callable[[tarfile.TarInfo], None] = lambda _: None,
    form: int = tarfile.PAX_FORMAT,
) -> bytes:
    """A tar of `entries` in order, as pairs if a name occurs twice; `change` may alter each header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for path, entry in entries.items() if isinstance(entries, Mapping) else entries:
            info = tarfile.TarInfo(path)
            info.mtime = TIME
            content = b""
            if isinstance(entry, bytes):
                content = entry
            elif isinstance(entry, File):
                content, info.mode, info.mtime = entry.content, entry.mode, entry.mtime
            elif isinstance(entry, Directory):
                info.type, info.mode = tarfile.DIRTYPE, 0o775
            else:
                info.type, info.linkname = tarfile.LNKTYPE if entry.hard else tarfile.SYMTYPE, entry.target
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_parts(parts: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of `parts` in order, with zip64 forced as in real packages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = compression
            with archive.open(entry, "w", force_zip64=True) as member:
                member.write(content)
    return buffer.getvalue()
