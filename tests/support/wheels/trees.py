"""Trees of installed wheels: ours from fragments, and those that uv makes, to be compared."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from isal import isal_zlib

from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits
from builder.archives.tar import END
from builder.layers.fragment import FragmentInfo, FragmentRecipe
from builder.layers.transcoding import transcode
from builder.packages.contents import PackageContents, PythonLayout
from builder.packages.inspection import inspect
from builder.packages.wheels.installation import INSTALLER
from tests.support.builder.packages import PYTHON
from tests.support.wheels.making import MadeWheel, encode_hash

UV = str(Path(sys.executable).with_name("uv"))


class Installed(NamedTuple):
    """A file under the prefix. `mode` has the permissions only."""

    mode: int
    content: bytes


class WheelFragment:
    """A wheel's fragment that was made, and read back by tarfile."""

    def __init__(
        self,
        made: MadeWheel,
        folder: Path,
        prefix: str = "/opt/conda",
        *,
        python: PythonLayout | None = PYTHON,
        limits: ArchiveLimits = DEFAULT_LIMITS,
        excluded: Iterable[str] = (),
        relocatable: bool = False,
    ) -> None:
        self.contents: PackageContents = inspect(made.path, made.record, python, folder / "contents", limits)
        self.recipe = FragmentRecipe.of(
            made.record.archive_key, self.contents, prefix, tuple(excluded), relocatable=relocatable
        )
        self.path = folder / "fragments" / self.recipe.key[:2] / self.recipe.key
        compressed, uncompressed = hashlib.sha256(), hashlib.sha256()
        self.info: FragmentInfo = transcode(
            self.recipe, self.contents, made.path, self.path, compressed, uncompressed, limits
        )
        data = isal_zlib.decompress(self.path.read_bytes(), wbits=31)
        assert compressed.hexdigest() == hashlib.sha256(self.path.read_bytes()).hexdigest()
        assert uncompressed.hexdigest() == hashlib.sha256(data).hexdigest()
        root = "" if relocatable else prefix.strip("/") + "/"
        self.files: dict[str, Installed] = {}
        self.times: dict[str, int] = {}
        with tarfile.open(fileobj=io.BytesIO(data + END)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                assert member.name.startswith(root)
                name = member.name[len(root) :]
                assert name not in self.files
                self.files[name] = Installed(member.mode, content.read())
                self.times[name] = int(member.mtime)
        assert set(self.files) == set(self.contents.list_installed()).difference(excluded)


def install_with_uv(environment: Path, wheels: Iterable[Path]) -> dict[str, Installed]:
    """Let uv install `wheels` of one folder into `environment`, and return the files that are there now."""
    paths = list(wheels)
    names = [f"{name}=={version}" for name, version, *_ in (path.name.split("-") for path in paths)]
    folders = {path.parent for path in paths}
    command = [UV, "pip", "install", "--quiet", "--offline", "--no-config", "--no-cache", "--no-index", "--no-deps"]
    command += [part for folder in folders for part in ("--find-links", str(folder))]
    command += ["--link-mode", "copy", "--python", str(environment / "bin/python"), *names]
    variables = {"PATH": os.defpath, "HOME": str(environment), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert not done.returncode, done.stderr
    return read_tree(environment)


def read_tree(directory: Path) -> dict[str, Installed]:
    return {
        str(path.relative_to(directory)): Installed(path.stat().st_mode & 0o777, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
    }


def apply_differences(files: Mapping[str, Installed]) -> dict[str, Installed]:
    """Make what docs/fragments.md names as different from uv alike, in a tree that uv made."""
    changed = {}
    for path, file in files.items():
        folder, _, name = path.rpartition("/")
        if not re.fullmatch(r".*/site-packages/[^/]+\.dist-info", folder):
            changed[path] = file
            continue
        if name == "uv_cache.json":
            # only of wheels that uv did not get from an index
            continue
        if name == "INSTALLER":
            assert file.content == b"uv"
            changed[path] = Installed(file.mode, INSTALLER)
        elif name == "RECORD":
            changed[path] = Installed(file.mode, b"".join(_change_rows(file.content.splitlines(keepends=True))))
        else:
            changed[path] = file
    return changed


def _change_rows(lines: Iterable[bytes]) -> Iterable[bytes]:
    for line in lines:
        path = line.split(b",")[0]
        if re.fullmatch(rb"[^/]+\.dist-info/INSTALLER", path):
            yield path + f",sha256={encode_hash(INSTALLER)},{len(INSTALLER)}\n".encode()
        elif not path.endswith(b".dist-info/uv_cache.json") and b".data/scripts/" not in path:
            yield line
