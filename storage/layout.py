"""The data directory, drawn once.

    condery.sqlite    the database, unless it is in PostgreSQL; -wal and -shm are SQLite's
    blobs/            bytes of blobs under keys that the database knows, unless they are in a bucket
    fragments/        packages as pieces of layers; those that a stored layer needs are content, the rest is a cache
    bases/            layers of docker archives while condery compresses them
    archives/         downloaded packages, a cache
    contents/         what was read from the packages, a cache
    packages/         unpacked packages, to which the files of environments on disk are links; a cache
    repodata/         channel indexes, a cache; its folder `own` has those read with a namespace's credentials
    pypi/             what indexes of PyPI packages said, what conda packages provide of them, uv's own; a cache
    search/           an index of each channel's packages, a cache
    working/          images being put together
    policy/           the deny list as it was read last
    mirror/           blobs of other registries on their way into a bucket
    changes           stamps of repositories, mapped by all processes of the machine
    collecting        the lock of the garbage collection; its time is that of the last collection
    directories       the lock of the process that keeps environments on disk
    reserve           room for deletions on a full disk

docs/operation.md says which of these may be deleted, and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDirectory:
    """The paths below `root`. Code that writes to a folder creates it."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "condery.sqlite"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def fragments(self) -> Path:
        return self.root / "fragments"

    @property
    def bases(self) -> Path:
        return self.root / "bases"

    @property
    def archives(self) -> Path:
        return self.root / "archives"

    @property
    def contents(self) -> Path:
        return self.root / "contents"

    @property
    def packages(self) -> Path:
        return self.root / "packages"

    @property
    def repodata(self) -> Path:
        return self.root / "repodata"

    @property
    def own_repodata(self) -> Path:
        return self.repodata / "own"

    @property
    def pypi(self) -> Path:
        return self.root / "pypi"

    @property
    def search(self) -> Path:
        return self.root / "search"

    @property
    def working(self) -> Path:
        return self.root / "working"

    @property
    def policy(self) -> Path:
        return self.root / "policy"

    @property
    def mirror(self) -> Path:
        return self.root / "mirror"

    @property
    def changes(self) -> Path:
        return self.root / "changes"

    @property
    def collecting(self) -> Path:
        return self.root / "collecting"

    @property
    def reserve(self) -> Path:
        return self.root / "reserve"

    @property
    def directories(self) -> Path:
        """Held by the process that keeps environments on disk."""
        return self.root / "directories"

    def fragment(self, key: str) -> Path:
        """The bytes of a fragment; its facts are beside them, with a suffix."""
        return fragment_path(self.fragments, key)


def fragment_path(fragments: Path, key: str) -> Path:
    """The path of a fragment's bytes in the folder of fragments."""
    return fragments / key[:2] / key
