"""Which files are watched, and reading them. Whoever writes to a watched directory leads no reader out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.environments.inputs.reading import LARGEST_LOCK
from builder.environments.watching.settings import LONGEST_PATH
from storage.errors import quote

NAMES = ("pixi.toml", "pixi.lock", "explicit.txt")
ENDINGS = (".yaml", ".yml", ".explicit.txt")
_OF_ITS_DIRECTORY = ("environment", "pixi", "conda-lock", "explicit")
"""Names of files, without their ending, that say nothing of the environment's."""
MOST_FILES = 1000
"""In one entry of the settings."""
MOST_SEEN = 50_000
"""Names of any kind that are looked at."""
DEEPEST = 16

_REMOTE = (
    *("nfs", "cifs", "smb", "9p", "fuse", "virtiofs", "vboxsf"),
    *("ceph", "gluster", "lustre", "gpfs", "beegfs", "afs"),
)
"""How the names of file systems begin on which somebody else's changes are not told."""

Signature = tuple[int, int, int, int, int]
"""Of a file that has not changed: device, inode, size, times of the content and of the inode."""


class Unwatchable(Exception):
    """A file or a directory cannot be read, with a reason in words."""


class Changing(Exception):
    """A file has changed while it was read."""


@dataclass(frozen=True)
class Scan:
    """What is there now: files by path, and the directories in which changes matter."""

    files: dict[str, Signature]
    directories: frozenset[str]


def find_bound(path: str) -> str:
    """The directory that nothing of an entry is outside of."""
    return os.path.realpath(path if os.path.isdir(path) else os.path.dirname(path))


def scan(path: str, *, recursive: bool) -> Scan:
    """What an entry consists of. It takes as long as the disk does. Raises Unwatchable."""
    bound = find_bound(path)
    if not os.path.isdir(bound):
        raise Unwatchable(f"{quote(path)} is not there")
    if bound != os.path.realpath(path):
        signature = _find_signature(path, bound)
        if signature is None and not os.path.lexists(path):
            raise Unwatchable(f"{quote(path)} is not there")
        return Scan({} if signature is None else {path: signature}, frozenset({bound}))
    files: dict[str, Signature] = {}
    directories = {path}
    for each in _walk(path, directories, recursive=recursive):
        if (signature := _find_signature(each, bound)) is not None:
            files[each] = signature
        if len(files) > MOST_FILES:
            raise Unwatchable(f"{quote(path)} has more than {MOST_FILES} environment files; watch less of it")
    return Scan(_leave_locked(files), frozenset(directories))


def _walk(path: str, directories: set[str], *, recursive: bool) -> Iterator[str]:
    """The paths of files that may be of environments; `directories` get those that were looked through."""
    left, seen = [(path, 0)], 0
    while left:
        directory, depth = left.pop()
        directories.add(directory)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MOST_SEEN:
                        raise Unwatchable(f"{quote(path)} holds more than {MOST_SEEN} names; watch less of it")
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if recursive and depth < DEEPEST:
                            left.append((entry.path, depth + 1))
                    elif is_known(entry.name) and len(entry.path) <= LONGEST_PATH:
                        yield entry.path
        except FileNotFoundError:
            # deleted meanwhile
            continue
        except OSError as error:
            raise Unwatchable(f"{quote(directory)} cannot be read: {error.strerror}") from None


def is_known(name: str) -> bool:
    return name.isprintable() and (name in NAMES or name.endswith(ENDINGS))


def _leave_locked(files: dict[str, Signature]) -> dict[str, Signature]:
    """Without manifests of pixi beside which their lock is: the lock is built."""
    return {
        path: signature
        for path, signature in files.items()
        if os.path.basename(path) != "pixi.toml" or f"{os.path.dirname(path)}/pixi.lock" not in files
    }


def _find_signature(path: str, bound: str) -> Signature | None:
    """None for what is no regular file, or is a link that leads out."""
    try:
        if not _is_within(os.path.realpath(path), bound):
            return None
        found = os.stat(path)
    except OSError:
        return None
    return _sign(found) if stat.S_ISREG(found.st_mode) else None


def _sign(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_within(path: str, bound: str) -> bool:
    return path.startswith(bound if bound.endswith("/") else f"{bound}/")


def read(path: str, bound: str) -> tuple[bytes, Signature]:
    """The content of a file and its signature. Raises Unwatchable, Changing."""
    try:
        # no fifo and no device keeps the reader waiting
        handle = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Unwatchable(f"it cannot be read: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        before = os.fstat(handle)
        # where the opened file is, whatever has become of its path meanwhile
        if not stat.S_ISREG(before.st_mode) or not _is_within(os.readlink(f"/proc/self/fd/{handle}"), bound):
            raise Changing
        if before.st_size > LARGEST_LOCK:
            raise Unwatchable(f"it has {before.st_size} bytes; at most {LARGEST_LOCK} are allowed")
        try:
            content = file.read(LARGEST_LOCK + 1)
        except OSError as error:
            raise Unwatchable(f"it cannot be read: {error.strerror}") from None
        after = os.fstat(handle)
    if _sign(before) != _sign(after) or len(content) != after.st_size:
        raise Changing
    return content, _sign(after)


def name_of(path: str) -> str:
    """What an environment is called whose file does not say: as the file is, or as its directory."""
    directory, name = os.path.split(path)
    stem = name.removesuffix(".txt").removesuffix(".explicit") if name.endswith(".txt") else name.rpartition(".")[0]
    return os.path.basename(directory) if stem in _OF_ITS_DIRECTORY else stem


def needs_polling(path: str) -> bool:
    """Whether the file system of a path does not tell of all changes."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
            mounts = [line.split() for line in lines]
    except OSError:
        return False
    return _find_file_system(os.path.realpath(path), mounts).startswith(_REMOTE)


def _find_file_system(path: str, mounts: Sequence[Sequence[str]]) -> str:
    """The type of the file system of a path, by the lines of mountinfo (proc_pid_mountinfo(5))."""
    best, found = -1, ""
    for fields in mounts:
        # octal escapes stand for spaces and the like
        point = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
        # of two at one point the later one is on top
        if (path == point or _is_within(path, point)) and len(point) >= best:
            best, found = len(point), fields[fields.index("-") + 1]
    return found
