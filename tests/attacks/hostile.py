"""A channel whose packages mean harm, made member by member."""

from __future__ import annotations

import bz2
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from tests.support.builder.packages import Entry, File, Made, Package, pack, zip_parts

Members = Sequence[tuple[str, Entry]]


@dataclass(frozen=True)
class Hostile:
    """A package of exactly these members; `paths` are rows of its paths.json, or paths of files."""

    package: Package
    members: Members
    paths: Sequence[str | dict[str, Any]]
    info: Members = ()
    """What else is in the info tar."""
    old: bool = False
    """Whether it is a .tar.bz2 with the listing of before paths.json."""
    has_prefix: bytes = b""
    more: dict[str, Any] = field(default_factory=dict)
    """Fields of its record."""

    def write(self, folder: Path) -> Made:
        rows = [row if isinstance(row, dict) else {"_path": row, "path_type": "hardlink"} for row in self.paths]
        files = self.package.info_files()
        files["info/paths.json"] = json.dumps({"paths_version": 1, "paths": rows}).encode()
        if self.old:
            del files["info/paths.json"]
            files["info/files"] = "".join(f"{row['_path']}\n" for row in rows).encode()
            files["info/has_prefix"] = self.has_prefix
        info: Members = [*((name, File(content)) for name, content in files.items()), *self.info]
        stem = self.package.stem
        if self.old:
            return self.package.made(folder, f"{stem}.tar.bz2", bz2.compress(pack([*info, *self.members])))
        parts = {
            "metadata.json": b'{"conda_pkg_format_version": 2}',
            f"pkg-{stem}.tar.zst": zstandard.compress(pack(self.members)),
            f"info-{stem}.tar.zst": zstandard.compress(pack(info)),
        }
        return self.package.made(folder, f"{stem}.conda", zip_parts(parts))


def write_channel(folder: Path, packages: Iterable[Hostile]) -> str:
    """A channel with `packages` and a repodata.json for them; its URL. No indexer is asked to read them."""
    repodata: dict[str, dict[str, Any]] = {
        subdir: {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "repodata_version": 1}
        for subdir in ("linux-64", "noarch")
    }
    for hostile in packages:
        record = hostile.write(folder).record
        row = hostile.package.index() | {"sha256": record.sha256, "md5": record.md5, "size": record.size} | hostile.more
        kind = "packages.conda" if record.file_name.endswith(".conda") else "packages"
        repodata[record.subdir][kind][record.file_name] = row
    for subdir, document in repodata.items():
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        (folder / subdir / "repodata.json").write_text(json.dumps(document))
    return folder.as_uri()
