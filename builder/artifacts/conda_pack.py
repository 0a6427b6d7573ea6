"""The archive of an image's prefix in conda-pack's format, joined from fragments like a layer.

    gzip member: the directories, parents first, each once
    gzip member: a fragment, one package's files and links, with the placeholders they were packaged with
    gzip member: conda-meta, conda-pack's scripts and conda-unpack's table, two zero blocks

Images and archives share the code that decides what is installed where: the same contents, overlaps and checks, and the
same reading of the package. Nothing is unpacked on this machine. The environment's variables are in `conda-meta/state`,
which conda reads, and in scripts, which conda-pack's own activation runs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from builder.archives import tar
from builder.archives.archive import ArchiveLimits
from builder.archives.tar import add_parents
from builder.archives.tar_member import TarMember
from builder.canonical import make_key
from builder.errors import ArchiveFailed, PathConflict
from builder.image.environment_layer import InstalledPackage, record_package, write_history
from builder.image.variables import list_variable_paths, write_variable_files
from builder.layers.compressor import Compressor
from builder.layers.fragment import (
    FragmentInfo,
    FragmentRecipe,
    note_fragment_use,
    read_info,
    read_paths,
    read_relocations,
    write_sidecar,
)
from builder.layers.layer import FragmentTask, check_fragment
from builder.layers.transcoding import transcode
from builder.locks.description import find_newest
from builder.locks.lock import Lock
from builder.packages.contents import PackageContents, Placeholder, PythonLayout
from builder.packages.inspection import inspect
from builder.packages.overlap import find_overlaps, read_contents
from builder.packages.relocation import VERSION, list_own_paths, write_own_files
from builder.packages.starting_files import StartingFiles
from builder.work.gather import gather_all
from builder.work.pool import HEAVY, WorkerPool
from builder.work.shares import group_small
from storage.blobs.joins import FragmentPart, Join
from storage.digest import Digest
from storage.disk.files import atomic_write
from storage.errors import FragmentsGone
from storage.layout import DataDirectory

FORMAT = 3
"""Part of every archive's key: raise it when the same fragments join to other bytes."""

_READ = 1 << 20
_CONDA_PACK = "conda-pack's own scripts"


@dataclass(frozen=True)
class ArchiveTask:
    """One platform's archive, in picklable form."""

    data: DataDirectory
    lock: Lock
    platform: str
    fragments: tuple[FragmentTask, ...]
    limits: ArchiveLimits

    @cached_property
    def key(self) -> str:
        keys = [fragment.recipe.key for fragment in self.fragments]
        return make_key("environment archive", [FORMAT, VERSION, self.lock.key, self.platform, keys])

    def path(self, key: str) -> Path:
        return self.data.fragment(key)


class _Unhashed:
    """Stands in for a hasher where the parts' bytes are hashed later, when they are joined."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        pass


def plan_archive(
    data: DataDirectory, lock: Lock, platform: str, archives: Mapping[str, Path], limits: ArchiveLimits
) -> ArchiveTask:
    """Plan the archive of `platform`'s packages, in a worker. Raises PathConflict, PackageRefused.

    `archives` are by archive key. Where a path is conda-pack's too, conda-pack's file wins.
    """
    packages = lock.packages[platform]
    paths = [archives[package.archive_key] for package in packages]
    pairs = read_contents(packages, paths, PythonLayout.among(packages), data.contents, limits)
    overlaps = find_overlaps(pairs)
    fragments = []
    own = list_own_paths() | list_variable_paths(lock.spec)
    for package, its in pairs:
        _check_own_paths(its, own)
        excluded = own.intersection(its.list_installed()).union(overlaps.excluded.get(package.name, ()))
        recipe = FragmentRecipe.of(
            package.archive_key, its, lock.spec.prefix, tuple(sorted(excluded)), relocatable=True
        )  # fmt: skip
        fragments.append(FragmentTask(recipe, package, archives[package.archive_key]))
    return ArchiveTask(data, lock, platform, tuple(fragments), limits)


def _check_own_paths(contents: PackageContents, own: frozenset[str]) -> None:
    for path in own.intersection(contents.directories) | {"bin"}.intersection(contents.list_installed()):
        raise PathConflict(path, (contents.package, _CONDA_PACK))


async def pack(task: ArchiveTask, pool: WorkerPool, seconds: float) -> Join:
    """Make the parts of the archive. The caller stores the join. The same lock gives the same bytes.

    Raises ArchiveFailed after `seconds`, PackageRefused, FragmentsGone, StorageFull, WorkerLost. A worker
    that is busy at that time still finishes its package, or its few small ones.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            await gather_all(
                pool.run_sized(
                    sum(map(_measure, group)),
                    f"transcoding {group[0].package.name}",
                    make_fragments,
                    task.data,
                    group,
                    task.limits,
                )
                for group in group_small(sorted(task.fragments, key=lambda each: each.package.name), _measure)
            )
            return await pool.run("finishing an archive", finish_archive, task)
    except TimeoutError:
        if not limit.expired():
            raise
        raise ArchiveFailed(task.platform, f"it took more than the allowed {seconds:g} s (archive_seconds)") from None


def make_fragments(data: DataDirectory, fragments: Sequence[FragmentTask], limits: ArchiveLimits) -> None:
    """Make the fragments that do not exist yet. Raises PackageRefused, StorageFull."""
    for fragment in fragments:
        path = data.fragment(fragment.recipe.key)
        if check_fragment(path):
            note_fragment_use(path)
            continue
        contents = inspect(fragment.archive, fragment.package, fragment.recipe.python, data.contents, limits)
        transcode(fragment.recipe, contents, fragment.archive, path, _Unhashed(), _Unhashed(), limits)


def finish_archive(task: ArchiveTask) -> Join:
    """Write what belongs to no package, and join everything. Raises FragmentsGone, PackageRefused, StorageFull."""
    infos = [_find_fragment(task, fragment) for fragment in task.fragments]
    relocations = [
        (path, placeholder.text, placeholder.mode)
        for info in infos
        for path, placeholder in sorted(_read_relocations(task, info).items())
    ]
    own = [*write_own_files(relocations), *_write_variables(task)]
    modified = find_newest(task.lock.packages[task.platform]) // 1000
    head = _write_edge(task, "head", (tar.make_directory(path) for path in _list_directories(task, own)))
    tail = _write_edge(task, "tail", _write_tail(task, own, modified))
    infos = [head, *infos, tail]
    try:
        digest = _hash_files(task.path(info.key) for info in infos)
    except FileNotFoundError:
        raise FragmentsGone([info.key for info in infos]) from None
    return Join(digest, tuple(FragmentPart(info.key, info.size) for info in infos))


def _find_fragment(task: ArchiveTask, fragment: FragmentTask) -> FragmentInfo:
    info = read_info(task.path(fragment.recipe.key))
    if info is None:
        raise FragmentsGone([fragment.recipe.key])
    return info


def _read_relocations(task: ArchiveTask, info: FragmentInfo) -> dict[str, Placeholder]:
    try:
        return read_relocations(task.path(info.key))
    except FileNotFoundError:
        raise FragmentsGone([info.key]) from None


def _write_variables(task: ArchiveTask) -> list[TarMember]:
    return [TarMember(path, content) for path, content in write_variable_files(task.lock.spec).items()]


def _list_directories(task: ArchiveTask, own: Iterable[TarMember]) -> list[str]:
    paths = set(add_parents([*(file.path for file in own), "conda-meta/history"]))
    for each in task.fragments:
        paths.update(
            inspect(each.archive, each.package, each.recipe.python, task.data.contents, task.limits).directories
        )
    return sorted(paths)


def _write_tail(task: ArchiveTask, own: Iterable[TarMember], modified: int) -> Iterator[bytes]:
    past = TarMember("conda-meta/history", write_history(task.lock, task.platform))
    for file in chain(_write_records(task), [past], own):
        yield from file.pieces(modified)
    yield tar.END


def _write_records(task: ArchiveTask) -> Iterator[TarMember]:
    requested = {item.name: item.match_spec() for item in task.lock.spec.items}
    for fragment in task.fragments:
        package = fragment.package
        if package.is_wheel:
            continue
        try:
            paths = read_paths(task.path(fragment.recipe.key))
        except FileNotFoundError:
            raise FragmentsGone([fragment.recipe.key]) from None
        yield record_package("", InstalledPackage(package, paths), requested.get(package.name))


def _write_edge(task: ArchiveTask, which: str, pieces: Iterable[bytes]) -> FragmentInfo:
    """Write a gzip member that belongs to the archive itself, kept as a fragment."""
    key = make_key("edge of an environment archive", [task.key, which])
    path = task.path(key)
    with atomic_write(path, durable=False, scratch=path.parents[1]) as file:
        compressor = Compressor(file.write, _Unhashed(), _Unhashed())
        for piece in pieces:
            compressor.add(piece)
        compressor.finish()
    info = FragmentInfo(key, compressor.size, compressor.uncompressed_size)
    write_sidecar(path, info, {}, StartingFiles(), ())
    return info


def _hash_files(paths: Iterable[Path]) -> Digest:
    hasher = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while piece := file.read(_READ):
                hasher.update(piece)
    return Digest(f"sha256:{hasher.hexdigest()}")


def _measure(fragment: FragmentTask) -> int:
    size = fragment.package.size
    return HEAVY if size is None else size
