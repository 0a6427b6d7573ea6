"""The data directory, drawn once.

    condery.sqlite    the database, unless it is a PostgreSQL; -wal and -shm are SQLite's
    blobs/            bytes of blobs under keys that the database knows, unless they are in a bucket
    fragments/        packages as pieces of layers; what a stored layer consists of is content, the rest a cache
    bases/            layers of docker archives, while they are compressed
    archives/         downloaded packages, a cache
    contents/         what was read from them, a cache
    repodata/         channels' indexes, a cache
    working/          images while they are put together
    mirror/           blobs of other registries on their way into a bucket
    changes           stamps of repositories, which all processes of the machine map
    collecting        the lock of the garbage collection; its time is that of the last one
    reserve           room for deletions on a full disk

docs/operation.md says what of it may be deleted, and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDirectory:
    """Where everything is below `root`. Whoever writes there makes the folder."""

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
    def repodata(self) -> Path:
        return self.root / "repodata"

    @property
    def working(self) -> Path:
        return self.root / "working"

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

    def fragment(self, key: str) -> Path:
        """The bytes of a fragment; what is known of it is beside them, with a suffix."""
        return fragment_path(self.fragments, key)


def fragment_path(fragments: Path, key: str) -> Path:
    """Where the bytes of a fragment are in the folder of fragments."""
    return fragments / key[:2] / key
