"""Writes the listed members of a package's archive as a fragment, in one pass.

Every check of a package's content is here, in `builder.packages.listing` or in `builder.packages.paths`, for images and
archives alike.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO

from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits, check_member, check_name, payload
from builder.archives.tar import DIRECTORY, FILE, HARD_LINK, SYMLINK, add_parents, make_header, normalize_mode, pad
from builder.archives.tar_reader import Member, Renamed, Sink, TarError, TarReader
from builder.errors import PackageRefused
from builder.layers.compressor import CHUNK, Compressor, Hasher
from builder.layers.fragment import FragmentInfo, FragmentRecipe, write_sidecar
from builder.layers.wheel_transcoding import WheelTranscoding
from builder.packages.contents import PackageContents, Placeholder
from builder.packages.differences import Differences, PathFacts
from builder.packages.entry_point import write_entry_point
from builder.packages.paths import check_way
from builder.packages.prefix import LongString, replace, replace_chunks
from builder.packages.prefix_record import WrittenFile, write_paths
from builder.packages.relocation import LARGEST_SCRIPT, drop_prefix, is_script
from builder.packages.starting_files import StartingFiles, has_some, starts
from storage.disk.files import atomic_write

_SMALL = 1 << 18
"""Bytes of the largest member that is handled whole, in memory."""

_SPOOL = 8 << 20

_LONGEST_LINK = 4095
"""Bytes of the target of a symbolic link (PATH_MAX)."""


def transcode(
    recipe: FragmentRecipe,
    contents: PackageContents,
    archive: Path,
    path: Path,
    compressed: Hasher,
    uncompressed: Hasher,
    limits: ArchiveLimits = DEFAULT_LIMITS,
) -> FragmentInfo:
    """Make the fragment at `path` from the package's archive and feed both hashers.

    Raises PackageRefused, StorageFull. After an error there is nothing at `path`, and the hashers are useless.
    """
    if contents.wheel is not None:
        return _transcode_wheel(recipe, contents, archive, path, compressed, uncompressed, limits)
    scratch = path.parents[1]
    with atomic_write(path, durable=False, scratch=scratch) as file:
        compressor = Compressor(file.write, compressed, uncompressed)
        job = Transcoding(recipe, contents, compressor.add, scratch, limits.text)
        job.copy_all(archive, limits, compressor)
        job.write_entry_points()
        compressor.finish()
    differences = job.find_differences()
    info = FragmentInfo(recipe.key, compressor.size, compressor.uncompressed_size, differences.describe())
    written, relocations, starting = job.written, job.relocations, job.starting
    del job
    paths = write_paths(contents, written, frozenset(recipe.excluded), differences.found)
    write_sidecar(path, info, relocations, starting, paths)
    return info


def _transcode_wheel(
    recipe: FragmentRecipe,
    contents: PackageContents,
    archive: Path,
    path: Path,
    compressed: Hasher,
    uncompressed: Hasher,
    limits: ArchiveLimits,
) -> FragmentInfo:
    """Do the same for a wheel, which has no record of conda's, no placeholders and no files that start containers."""
    with atomic_write(path, durable=False, scratch=path.parents[1]) as file:
        compressor = Compressor(file.write, compressed, uncompressed)
        job = WheelTranscoding(
            contents, recipe.prefix, compressor.add, relocatable=recipe.relocatable, excluded=recipe.excluded
        )
        job.copy_all(archive, limits)
        compressor.finish()
    info = FragmentInfo(recipe.key, compressor.size, compressor.uncompressed_size, job.describe())
    write_sidecar(path, info, {}, StartingFiles(), ())
    return info


class Transcoding:
    """One pass over a package's members.

    Every member is checked before `_write_unchanged`, `_add_symlink` or `_add_hard_link` is called for it, so who
    writes something else than a layer replaces only these.
    """

    def __init__(
        self,
        recipe: FragmentRecipe,
        contents: PackageContents,
        add: Callable[[bytes | memoryview], object],
        scratch: Path,
        room: int,
    ) -> None:
        """`add` takes the members' bytes, `scratch` is a folder for temporary files."""
        self._package = contents.package
        self._contents = contents
        self._prefix = recipe.prefix
        self._relocatable = recipe.relocatable
        self._root = "" if recipe.relocatable else recipe.prefix.strip("/") + "/"
        self._add = add
        self._scratch = scratch
        self._room = room
        """Characters that link targets may still have."""
        self._patched_time = contents.timestamp + 1
        self._placeholders = {contents.sources[index]: each for index, each in contents.placeholders.items()}
        if not self._relocatable:
            self._check_placeholders()
        self._excluded = frozenset(recipe.excluded)
        self._left_out = self._excluded.union(f"bin/{entry.command}" for entry in contents.entry_points)
        names = zip(
            _encode_all(contents.sources), _encode_all(contents.targets, self._root), contents.kinds, strict=True
        )
        self._plain = {source: target for source, target, kind in names if kind != "d"}
        """Files and links whose members have not come yet: from name in the archive to name in the layer."""
        self._changed: dict[bytes, str] = {}
        """The same for those that are patched or left out, with paths under the prefix."""
        self._set_changed_apart()
        self._directories = frozenset(
            source for source, kind in zip(contents.sources, contents.kinds, strict=True) if kind == "d"
        )
        self._copied: dict[bytes, Renamed] = {}
        """Unpatched files written so far, by member name. Hard links to them may follow."""
        self._symlinks: dict[bytes, str] = {}
        self._settled: set[bytes] = set()
        """Other listed members that have come: patched, left out, or postponed hard links."""
        self.postponed: dict[str, list[tuple[str, str]]] = {}
        """By the member that they link to: (source, target) of hard links that become files of their own."""
        self._packaged: dict[str, PathFacts] = {}
        """Files with a prefix to replace, as they are in the archive, by their path there."""
        self._linked: set[str] = set()
        """Paths of the symbolic links, under the prefix."""
        self.written: dict[str, WrittenFile] = {}
        self.relocations: dict[str, Placeholder] = {}
        """By path: files whose prefix is replaced when the archive is unpacked."""
        self.starting = StartingFiles()

    @cached_property
    def _ways(self) -> frozenset[str]:
        """The archive's directories that lead to listed files, and the one with the package's own data."""
        return add_parents(self._contents.sources) | {"info"}

    def _set_changed_apart(self) -> None:
        contents = self._contents
        rows = list(contents.placeholders)
        if self._left_out:
            rows += (index for index, target in enumerate(contents.targets) if target in self._left_out)
        if "s" in contents.kinds:
            # a file that is listed as a link must not slip through unseen
            rows += (index for index, kind in enumerate(contents.kinds) if kind == "s")
        if has_some(contents.directories):
            rows += (index for index, target in enumerate(contents.targets) if starts(target))
        for index in rows:
            source = contents.sources[index].encode()
            if self._plain.pop(source, None):
                self._changed[source] = contents.targets[index]

    def _check_placeholders(self) -> None:
        for source, placeholder in self._placeholders.items():
            if placeholder.mode == "binary" and len(self._prefix.encode()) > len(placeholder.text.encode()):
                raise PackageRefused(
                    self._package,
                    f"{source} has room for a prefix of {len(placeholder.text.encode())} bytes, "
                    f"but {self._prefix} is longer; ask the administrator for a shorter prefix",
                )

    def copy_all(self, archive: Path, limits: ArchiveLimits, sink: Sink | None = None) -> None:
        """Write all that the package lists. Raises PackageRefused if the archive lacks some of it."""
        for part in self._contents.parts:
            with payload(archive, self._package, limits, sink, part) as members:
                self.copy(members)
        for part in self._contents.parts if self.postponed else ():
            with payload(archive, self._package, limits, part=part) as members:
                self.copy_postponed(members)
        self.check_complete()

    def copy(self, members: TarReader) -> None:
        """Write all listed members, in the archive's order."""
        while True:
            members.rename(self._plain, self._copied)
            member = members.next()
            if member is None:
                return
            self.copy_member(members, member)

    def copy_member(self, members: TarReader, member: Member) -> None:
        """Write a member that is big, patched, linked, oddly named, or not listed."""
        check_member(member)
        name = check_name(member.name)
        target = self._take(name)
        if target is None:
            self._pass_over(member, name)
        elif target in self._left_out:
            return
        elif member.kind == FILE:
            self._write_file(members, member, name, target)
        elif member.kind == SYMLINK:
            self._symlinks[_encode(name)] = member.link
            self._write_symlink(target, member.link, member.mtime)
        elif member.kind == HARD_LINK:
            self._write_hard_link(member, name, target)
        else:
            raise PackageRefused(self._package, f"{target} is listed as a file, but is a directory in the archive")

    def _take(self, name: str) -> str | None:
        """Return, once, where the file or link `name` goes under the prefix; None if it is not awaited."""
        raw = _encode(name)
        if target := self._plain.pop(raw, None):
            return target.decode()[len(self._root) :]
        changed = self._changed.pop(raw, None)
        if changed is not None:
            self._settled.add(raw)
        return changed

    def _pass_over(self, member: Member, name: str) -> None:
        raw = _encode(name)
        if raw in self._copied or raw in self._symlinks or raw in self._settled:
            raise TarError(f"member {name} occurs twice")
        if not name.startswith("info/"):
            check_way(self._package, name, member, self._ways)
        if name in self._directories and member.kind != DIRECTORY:
            raise PackageRefused(self._package, f"{name} is listed as a directory, but is not one in the archive")

    def _write_symlink(self, target: str, link: str, mtime: int) -> None:
        if not link or "\0" in link:
            raise PackageRefused(self._package, f"the symbolic link {target} points nowhere")
        self._room -= len(link)
        if len(link) > _LONGEST_LINK or self._room < 0:
            raise PackageRefused(self._package, f"the symbolic link {target} points to a path that is too long")
        self._linked.add(target)
        self._add_symlink(target, link, mtime)

    def _add_symlink(self, target: str, link: str, mtime: int) -> None:
        self.starting.keep_link(target, link)
        self._add(make_header(self._root + target, mode=0o777, mtime=mtime, kind=SYMLINK, link=link))

    def _write_hard_link(self, member: Member, name: str, target: str) -> None:
        origin = check_name(member.link)
        raw = _encode(origin)
        if raw in self._symlinks:
            self._write_symlink(target, self._symlinks[raw], member.mtime)
        elif raw in self._copied and name not in self._placeholders:
            self._copied[_encode(name)] = self._copied[raw]
            self._add_hard_link(target, self._copied[raw])
        else:
            self._settled.add(_encode(name))
            self.postponed.setdefault(origin, []).append((name, target))

    def _add_hard_link(self, target: str, origin: Renamed) -> None:
        # docker gives the file the mode and time from the header of its last link
        path, mode, mtime, _ = origin
        self.starting.keep_link(target, f"/{path.decode()}")
        self._add(make_header(self._root + target, mode=mode, mtime=mtime, kind=HARD_LINK, link=path.decode()))

    def _write_file(self, members: TarReader, member: Member, name: str, target: str) -> None:
        placeholder = self._placeholders.get(name)
        if placeholder:
            self._write_patched(map(bytes, members.chunks()), member, name, target, placeholder)
            return
        renamed = (self._root + target).encode(), normalize_mode(member.mode), member.mtime, member.size
        self._copied[_encode(name)] = renamed
        self._write_unchanged(members.chunks(), member, target)

    def _write_unchanged(self, pieces: Iterable[bytes | memoryview], member: Member, target: str) -> None:
        self._add(
            make_header(self._root + target, size=member.size, mode=normalize_mode(member.mode), mtime=member.mtime)
        )
        for piece in self.starting.keep(target, pieces):
            self._add(piece)
        self._add(pad(member.size))

    def _write_patched(
        self, pieces: Iterable[bytes], member: Member, source: str, target: str, placeholder: Placeholder
    ) -> None:
        """Write a file with its prefix replaced.

        Small files are held in memory. A big text goes through a temporary file: its new size, which comes before its
        first byte, is known only after its last.
        """
        packaged = hashlib.sha256()
        try:
            self._write_replaced(_hash(pieces, packaged), member, target, placeholder)
        except LongString as error:
            raise PackageRefused(self._package, f"{target} {error}") from None
        self._packaged[source] = PathFacts("f", member.size, packaged.hexdigest())

    def _write_replaced(self, pieces: Iterable[bytes], member: Member, target: str, placeholder: Placeholder) -> None:
        text, mode = placeholder
        if self._relocatable:
            self._write_relocatable(pieces, member, target, placeholder)
            return
        if member.size <= _SMALL:
            content = replace(b"".join(pieces), mode, text, self._prefix)
            self._write_new([content], len(content), normalize_mode(member.mode), target)
            return
        replaced = replace_chunks(pieces, mode, text, self._prefix)
        if mode == "binary":
            self._write_new(replaced, member.size, normalize_mode(member.mode), target)
            return
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL, dir=str(self._scratch)) as spool:
            for piece in replaced:
                spool.write(piece)
            self._write_new(_reread(spool), spool.tell(), normalize_mode(member.mode), target)

    def _write_relocatable(
        self, pieces: Iterable[bytes], member: Member, target: str, placeholder: Placeholder
    ) -> None:
        """Write a file as packaged, for `conda-unpack` to change, or a script that needs no change."""
        if is_script(target, placeholder.mode) and member.size <= LARGEST_SCRIPT:
            pieces = [b"".join(pieces)]
            independent = drop_prefix(pieces[0], target, placeholder.text)
            if independent is not None:
                self._write_new([independent], len(independent), normalize_mode(member.mode), target)
                return
        self._write_unchanged(pieces, member, target)
        self.relocations[target] = placeholder

    def _write_new(self, pieces: Iterable[bytes], size: int, mode: int, target: str) -> None:
        """Write a file that differs from the packaged one. Its time is later than any recorded in a `.pyc`."""
        self._add(make_header(self._root + target, size=size, mode=mode, mtime=self._patched_time))
        hasher = hashlib.sha256()
        for piece in self.starting.keep(target, pieces):
            hasher.update(piece)
            self._add(piece)
        self._add(pad(size))
        self.written[target] = WrittenFile(hasher.hexdigest(), size)

    def copy_postponed(self, members: TarReader) -> None:
        """Make a second pass, for hard links to what was patched, left out, or comes later. They become files."""
        ways = add_parents(self.postponed)
        for member in members:
            name = check_name(member.name)
            check_way(self._package, name, member, ways)
            links = self.postponed.pop(name, None)
            if links is None:
                continue
            if member.kind != FILE:
                raise TarError(f"{links[0][0]} is a hard link to {name}, which is not a file")
            with tempfile.SpooledTemporaryFile(max_size=_SPOOL, dir=str(self._scratch)) as spool:
                for chunk in members.chunks():
                    spool.write(chunk)
                for source, target in links:
                    if placeholder := self._placeholders.get(source):
                        self._write_patched(_reread(spool), member, source, target, placeholder)
                    else:
                        self._write_unchanged(_reread(spool), member, target)
                        self._copied[_encode(source)] = (
                            target.encode(),
                            normalize_mode(member.mode),
                            member.mtime,
                            member.size,
                        )

    def check_complete(self) -> None:
        """Raises PackageRefused if the archive lacks a listed file or link, or the file of a hard link."""
        for origin, links in self.postponed.items():
            raise PackageRefused(
                self._package, f"{links[0][0]} is a hard link to {origin}, which its archive does not have"
            )
        for missing in (*self._plain, *self._changed):
            raise PackageRefused(self._package, f"it lists {missing.decode()}, which its archive does not have")

    def find_differences(self) -> Differences:
        """Compare what was written with the package's listing."""
        contents = self._contents
        differences = Differences()
        for index, raw in enumerate(_encode_all(contents.sources)):
            kind, size, sha256 = contents.kinds[index], contents.sizes[index], None
            target = contents.targets[index]
            if copied := self._copied.get(raw):
                if kind == "f" and (size is None or size == copied[3]):
                    continue
                lies = PathFacts("f", copied[3])
            elif target in self._linked:
                lies = PathFacts("s")
            elif found := self._packaged.get(contents.sources[index]):
                sha256, lies = contents.sha256[index], found
            else:
                continue
            differences.compare(target, PathFacts(kind, size, sha256), lies)
        return differences

    def write_entry_points(self) -> None:
        python = self._contents.python
        for entry in self._contents.entry_points:
            target = f"bin/{entry.command}"
            if python and target not in self._excluded:
                script = write_entry_point(entry, self._prefix, python)
                if self._relocatable:
                    script = self._relocate(script, target)
                self._write_new([script], len(script), 0o755, target)

    def _relocate(self, script: bytes, target: str) -> bytes:
        independent = drop_prefix(script, target, self._prefix)
        if independent is None:
            self.relocations[target] = Placeholder(self._prefix, "text")
            return script
        return independent


def _hash(pieces: Iterable[bytes], hasher: Hasher) -> Iterator[bytes]:
    for piece in pieces:
        hasher.update(piece)
        yield piece


def _encode_all(names: Sequence[str], root: str = "") -> list[bytes]:
    """Encode `root + name` for each name, in a fraction of the time of single calls. Names have no NUL."""
    joined = f"\0{root}".join(["", *names]).encode()
    return joined.split(b"\0")[1:]


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _reread(file: IO[bytes]) -> Iterator[bytes]:
    """Yield all of `file` in pieces, from its start."""
    file.seek(0)
    while piece := file.read(CHUNK):
        yield piece
