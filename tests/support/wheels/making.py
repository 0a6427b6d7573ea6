"""Small real wheels for tests: `Wheel(...).write(folder)`. Everything that a wheel can have wrong can be asked for."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from builder.locks.lock import WHEEL_PREFIX, LockedPackage

DATE = (2021, 3, 4, 5, 6, 8)
TIME = 1614834368
"""The same in seconds UTC."""


@dataclass(frozen=True)
class Member:
    """A member of the zip. `attributes` are the external ones in full, instead of those of `mode`."""

    content: bytes = b""
    mode: int = 0o100644
    listed: bool = True
    date: tuple[int, int, int, int, int, int] = DATE
    stored: bool = False
    system: int = 3
    attributes: int | None = None


@dataclass(frozen=True)
class Wheel:
    """A wheel to make. `files` are below its root; `information` replaces files of its `.dist-info`, None removes one.

    `record` has rows to add to RECORD, or to replace in it.
    """

    name: str = "sample"
    version: str = "1.0"
    tags: str = "py3-none-any"
    files: Mapping[str, bytes | Member] = field(default_factory=dict)
    entry_points: str | None = None
    information: Mapping[str, bytes | None] = field(default_factory=dict)
    record: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    pure: bool = True
    record_mode: int = 0o100644

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def dist_info(self) -> str:
        return self.directory or f"{self.stem}.dist-info"

    @property
    def file_name(self) -> str:
        return f"{self.stem}-{self.tags}.whl"

    def list_members(self) -> dict[str, Member]:
        """List the members by name, RECORD last."""
        own: dict[str, bytes | None] = {
            "METADATA": f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n".encode(),
            "WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(self.pure).lower()}\nTag: {self.tags}\n".encode(),
        }
        if self.entry_points is not None:
            own["entry_points.txt"] = self.entry_points.encode()
        own |= {name: content for name, content in self.information.items() if name != "RECORD"}
        members = {name: each if isinstance(each, Member) else Member(each) for name, each in self.files.items()}
        members |= {
            f"{self.dist_info}/{name}": Member(each, listed=not name.startswith("RECORD"))
            for name, each in own.items()
            if each is not None
        }
        record = self.information.get("RECORD", self._write_record(members))
        if record is not None:
            members[f"{self.dist_info}/RECORD"] = Member(record, mode=self.record_mode)
        return members

    def _write_record(self, members: Mapping[str, Member]) -> bytes:
        rows = {
            name: f"sha256={encode_hash(each.content)},{len(each.content)}"
            for name, each in members.items()
            if each.listed and not name.endswith("/")
        }
        rows |= {f"{self.dist_info}/RECORD": ","} | dict(self.record)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for path, rest in rows.items():
            writer.writerow([path, *rest.split(",")])
        return text.getvalue().encode("utf-8", "surrogateescape")

    def write(self, folder: Path) -> MadeWheel:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, member in self.list_members().items():
                info = zipfile.ZipInfo(name, member.date)
                info.external_attr = member.mode << 16 if member.attributes is None else member.attributes
                info.create_system = member.system
                info.compress_type = zipfile.ZIP_STORED if member.stored else zipfile.ZIP_DEFLATED
                archive.writestr(info, member.content)
        return self.made(folder, buffer.getvalue())

    def made(self, folder: Path, content: bytes) -> MadeWheel:
        """Write `content` as this wheel, with a matching record."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name
        path.write_bytes(content)
        return MadeWheel(path, record_wheel(path))


@dataclass(frozen=True)
class MadeWheel:
    """A wheel on disk, and what a lock has of it."""

    path: Path
    record: LockedPackage


def record_wheel(path: Path) -> LockedPackage:
    """Write what a lock has of the wheel at `path`, without what only its index and METADATA say."""
    name, version, build = path.name.removesuffix(".whl").split("-", 2)
    content = path.read_bytes()
    return LockedPackage(
        name=WHEEL_PREFIX + canonicalize_name(name),
        version=version,
        build=build,
        build_number=0,
        subdir="noarch" if build.endswith("-any") else "linux-64",
        channel="https://pypi.org/simple",
        url=f"https://files.example/{path.name}",
        file_name=path.name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=None,
        timestamp=TIME * 1000,
    )


def encode_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
