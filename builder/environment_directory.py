"""An environment installed into a directory by rattler, and packed in conda-pack's format.

The archive is unpacked anywhere, and `bin/conda-unpack` in it then writes the place into the files. rattler and
conda-pack work for seconds and hold hundreds of megabytes, so they run in a process of their own, which has a time
limit and a memory limit: `pack` starts it, `main` is what it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import resource
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Protocol, cast

from builder.contents import PythonLayout
from builder.errors import ArchiveFailed
from builder.lock import Lock, LockedPackage
from builder.lock_formats import newest
from storage.digest import Digest

_ARCHIVE = "archive.tar.gz"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class PackingLimits:
    """What one packing may use: seconds of wall clock, bytes of memory."""

    seconds: float = 1800
    memory: int = 4 << 30


DEFAULT_LIMITS = PackingLimits()


@dataclass(frozen=True)
class PackedArchive:
    path: Path
    digest: Digest


async def pack(
    lock: Lock,
    platform: str,
    archives: Mapping[str, Path],
    working: Path,
    history: bytes,
    limits: PackingLimits = DEFAULT_LIMITS,
) -> PackedArchive:
    """Install `platform`'s packages under `working` and pack them; `working` is the caller's to remove.

    `archives` gives the downloaded archive of each `archive_key`. The same lock gives the same bytes. Raises
    ArchiveFailed.
    """
    if platform.startswith("win-"):
        raise ArchiveFailed(platform, "conda-unpack's Windows launcher is made on Windows only; use conda-lock.yml")
    job = {
        "packages": [package.to_json() for package in lock.packages[platform]],
        "archives": {key: str(path.resolve()) for key, path in archives.items()},
        "requested": {item.name: item.match_spec() for item in lock.spec.items},
        "platform": platform,
        "prefix": lock.spec.prefix,
        "working": str(working.resolve()),
        "history": history.decode(),
        "memory": limits.memory,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(json.dumps(job).encode()), limits.seconds)
    except TimeoutError:
        raise ArchiveFailed(platform, f"it took more than the allowed {limits.seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ArchiveFailed(platform, _last_line(errors) or f"the packing process died with code {process.returncode}")
    return PackedArchive(working / _ARCHIVE, Digest.parse(output.decode().strip()))


def main() -> None:
    """Do the job on standard input; print the archive's digest, or on standard error why not."""
    # an orphan would go on for minutes in a folder that the next server believes is its own
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    job = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_DATA, (job["memory"], job["memory"]))
    working = Path(job["working"])
    # conda-pack writes its scripts through temporary files
    tempfile.tempdir = str(working)
    packages = [LockedPackage.from_json(package) for package in job["packages"]]
    try:
        asyncio.run(install(packages, job["platform"], job["archives"], working, job["prefix"]))
        digest = write_archive(packages, working, job["prefix"], job["requested"], job["history"].encode())
    except Exception as error:  # noqa: BLE001 - whatever it is, its text is the answer
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
    sys.stdout.write(f"{digest}\n")


async def install(
    packages: Sequence[LockedPackage],
    platform: str,
    archives: Mapping[str, str],
    working: Path,
    prefix: str,
) -> None:
    """`working/environment`, with `prefix` in its files, and the packages as they were packed in `working/cache`.

    No script of a package is run.
    """
    import rattler

    records = [rattler_record(package, Path(archives[package.archive_key])) for package in packages]
    await rattler.install(
        records,
        target_prefix=working / "environment",
        cache_dir=working / "cache",
        installed_packages=[],
        platform=rattler.Subdir(platform),
        execute_link_scripts=False,
        show_progress=False,
        alternative_target_prefix=prefix,
    )


def write_archive(
    packages: Sequence[LockedPackage], working: Path, prefix: str, requested: Mapping[str, str], history: bytes
) -> Digest:
    """Pack `working/environment` as `working/archive.tar.gz`; returns its digest. `requested` are specs by name."""
    from conda_pack.core import Packer

    environment = working / "environment"
    metadata = {path.name: _prefix_record(path) for path in sorted(environment.glob("conda-meta/*.json"))}
    site_packages = next(
        (PythonLayout.of(package).site_packages for package in packages if package.name == "python"), None
    )
    modified = newest(packages) // 1000
    with open(working / _ARCHIVE, "wb") as output, _compressed(output) as (stream, hasher):
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w", format=tarfile.GNU_FORMAT) as tar:
            entries = _Entries(tar, working / "cache", modified)
            packer = Packer(prefix, entries)
            files = [file for document in metadata.values() for file in _files(environment, document, site_packages)]
            for file in sorted(files, key=lambda file: file.target):
                packer.add(file)
            by_file = {f"{package}.json": package for package in packages}
            for name, document in metadata.items():
                entries.add_bytes(None, _published(document, by_file[name], requested), f"conda-meta/{name}")
            entries.add_bytes(None, history, "conda-meta/history")
            packer.finish()
    return Digest(f"sha256:{hasher.hexdigest()}")


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Hash(Protocol):
    def hexdigest(self) -> str: ...


class _Entries:
    """What conda-pack calls an archive, written to `tar` with owner 0:0 and a fixed time.

    Files as they were in a package, under `packed`, keep their time: it is what a `.pyc` file records of its source.
    """

    def __init__(self, tar: tarfile.TarFile, packed: Path, modified: int) -> None:
        self._tar = tar
        self._packed = packed
        self._modified = modified

    def add(self, source: str, target: str) -> None:
        info = self._tar.gettarinfo(source, target)
        if info.isreg() or info.islnk():
            # the environment's files are hard links into the cache, so two equal names of one inode are chance
            info.type = tarfile.REGTYPE
            info.linkname = ""
            info.size = Path(source).stat().st_size
            with open(source, "rb") as file:
                self._write(info, source, file)
        else:
            self._write(info, source, None)

    def add_bytes(self, source: str | None, content: bytes, target: str) -> None:
        info = tarfile.TarInfo(target)
        info.size = len(content)
        info.mode = Path(source).stat().st_mode & 0o777 if source else 0o644
        self._write(info, source, BytesIO(content))

    def _write(self, info: tarfile.TarInfo, source: str | None, content: IO[bytes] | None) -> None:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        if not info.issym():
            info.mode = 0o755 if info.mode & 0o111 else 0o644
        kept = source is not None and Path(source).is_relative_to(self._packed)
        info.mtime = int(info.mtime) if kept and info.mtime else self._modified
        self._tar.addfile(info, content)


@contextlib.contextmanager
def _compressed(file: IO[bytes]) -> Iterator[tuple[_Writer, _Hash]]:
    """A stream that gzips into `file`, and the hash of what arrives there."""
    from isal import igzip

    hasher = hashlib.sha256()

    class Hashing:
        def write(self, data: bytes) -> int:
            hasher.update(data)
            return file.write(data)

        def flush(self) -> None:
            file.flush()

    stream = igzip.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=Hashing(), mtime=0)  # type: ignore[no-untyped-call]  # isal types the class, not its constructor
    try:
        yield stream, hasher
    finally:
        stream.close()


def _files(environment: Path, document: Mapping[str, Any], site_packages: str | None) -> Iterator[Any]:
    """A package's files as conda-pack wants them: as they were packed, with their placeholder, where they have one.

    Taken from its prefix record rather than by conda-pack's own search, which knows neither CEP 17's site-packages nor
    what rattler did where two packages have one path.
    """
    from conda_pack.core import File

    packed = Path(document["extracted_package_dir"])
    for entry in document["paths_data"]["paths"]:
        target = entry["_path"]
        source = _packed_file(packed, target, site_packages if document.get("noarch") == "python" else None)
        if entry["path_type"] == "unix_python_entry_point":
            yield File(str(environment / target), target, file_mode="unknown")
        elif entry.get("prefix_placeholder"):
            mode, placeholder = entry["file_mode"], entry["prefix_placeholder"]
            yield File(str(source), target, file_mode=mode, prefix_placeholder=placeholder)
        else:
            yield File(str(source if os.path.lexists(source) else environment / target), target)


def _packed_file(packed: Path, target: str, site_packages: str | None) -> Path:
    """Where the installed file `target` is in its package; `site_packages` is given for noarch python ones."""
    if site_packages and target.startswith(f"{site_packages}/"):
        return packed / "site-packages" / target.removeprefix(f"{site_packages}/")
    if site_packages and target.startswith("bin/") and not os.path.lexists(packed / target):
        return packed / "python-scripts" / target.removeprefix("bin/")
    return packed / target


def _prefix_record(path: Path) -> dict[str, Any]:
    """What rattler recorded, in a fixed order, without the files that another package won and it therefore renamed."""
    document: dict[str, Any] = json.loads(path.read_bytes())
    paths = document["paths_data"]["paths"]
    lost = {entry["_path"] for entry in paths if entry.get("original_path")}
    kept = [entry for entry in paths if entry["_path"] not in lost]
    document["paths_data"]["paths"] = sorted(kept, key=itemgetter("_path"))
    document["files"] = sorted(file for file in document["files"] if file not in lost)
    return document


def _published(document: dict[str, Any], package: LockedPackage, requested: Mapping[str, str]) -> bytes:
    """A prefix record that names the channel's archive rather than our copy of it."""
    document |= {"url": package.url, "channel": package.channel, "fn": package.file_name}
    if package.timestamp:
        document["timestamp"] = package.timestamp
    if package.name in requested:
        document |= {"requested_spec": requested[package.name], "requested_specs": [requested[package.name]]}
    document |= {"extracted_package_dir": "", "package_tarball_full_path": ""}
    if document.get("link"):
        document["link"]["source"] = ""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def rattler_record(package: LockedPackage, archive: Path) -> Any:
    """What rattler installs: the locked package, from the file `archive`, whose hash it verifies."""
    import rattler

    record = rattler.PackageRecord(
        name=package.name,
        version=package.version,
        build=rattler.BuildString(package.build),
        build_number=package.build_number,
        subdir=package.subdir,
        noarch=cast(Any, package.noarch),
        depends=list(package.depends),
        constrains=list(package.constrains),
        sha256=bytes.fromhex(package.sha256) if package.sha256 else None,
        md5=bytes.fromhex(package.md5) if package.md5 else None,
        size=package.size,
        license=package.license,
        python_site_packages_path=package.python_site_packages_path,
    )
    return rattler.RepoDataRecord(record, package.file_name, archive.as_uri(), archive.parent.as_uri())


def _last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


if __name__ == "__main__":
    code = 0
    try:
        main()
    except SystemExit as end:
        code = 1
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        elif isinstance(end.code, int):
            code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    # rattler's threads can crash an interpreter that takes itself apart, and the crash's text would hide the answer
    os._exit(code)
