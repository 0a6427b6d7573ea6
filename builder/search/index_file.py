"""The index of one channel's packages: a SQLite file that is written once, and then replaced by the next.

    packages   a row for each package, in the order of name, version, build number, build and subdir
    releases   the first and last row of each version of each name
    names      the first and last row of each name, with its newest version
    summaries  what the channel says of a name
    about      what the index was made from

A search looks into `names` or `releases`, which are small, for the spans of rows that it wants, and reads rows only for
the page that it shows.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from builder.errors import ChannelRefused
from builder.policy.versions import parse_version
from builder.search.package import ListedPackage, SearchedChannel, make_id
from builder.search.version_key import make_version_key
from storage.disk.files import atomic_write

FORMAT = 1
"""Raise it when an index has to be made anew from the same repodata."""
SUFFIX = ".sqlite"
MOST_PACKAGES = 3_000_000
"""Packages of one channel, five times as many as the largest has."""

_SCHEMA = """
CREATE TABLE packages (
    row INTEGER PRIMARY KEY, id INTEGER, release INTEGER, name TEXT, version TEXT, build TEXT, build_number INTEGER,
    subdir TEXT, license TEXT, size INTEGER, timestamp INTEGER, sha256 BLOB, md5 BLOB, depends INTEGER
);
CREATE TABLE releases (first INTEGER PRIMARY KEY, last INTEGER, name TEXT, version TEXT, key TEXT);
CREATE TABLE names (first INTEGER PRIMARY KEY, last INTEGER, name TEXT, version TEXT, key TEXT);
CREATE TABLE summaries (name TEXT PRIMARY KEY, summary TEXT) WITHOUT ROWID;
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
_INDEXES = """
CREATE INDEX names_by_name ON names (name);
CREATE INDEX releases_by_key ON releases (key, name, last);
CREATE INDEX releases_by_version ON releases (version, key, name, last);
CREATE INDEX packages_by_build ON packages (build, release);
"""


@dataclass(frozen=True)
class Written:
    """How many packages an index has, and how many records it leaves out because they cannot be read."""

    packages: int
    skipped: int


class IndexWriter:
    """Writes an index, name after name, in their order."""

    def __init__(self, connection: sqlite3.Connection, channel: SearchedChannel) -> None:
        self._connection = connection
        self._channel = channel
        self.written = 0
        self.skipped = 0

    def add(self, name: str, packages: Iterable[ListedPackage | None], summary: str) -> None:
        """Add all packages of `name`, and count those that are None. Raises ChannelRefused if there are too many."""
        keyed = []
        for package in packages:
            if package is None:
                self.skipped += 1
                continue
            try:
                keyed.append((make_version_key(parse_version(package.version)), package))
            except ValueError:
                self.skipped += 1
        if not keyed:
            return
        if self.written + len(keyed) > MOST_PACKAGES:
            raise ChannelRefused(self._channel.name, f"its index has more than {MOST_PACKAGES} packages")
        keyed.sort(key=_order)
        first = self.written + 1
        # equal versions may be written differently, so they are grouped by their text
        for (key, version), group in groupby(keyed, lambda each: (each[0], each[1].version)):
            self._add_release(name, version, key, [package for _, package in group])
        newest, package = keyed[-1]
        row = (first, self.written, name, package.version, newest)
        self._connection.execute("INSERT INTO names VALUES (?, ?, ?, ?, ?)", row)
        if summary:
            self._connection.execute("INSERT OR IGNORE INTO summaries VALUES (?, ?)", (name, summary))

    def _add_release(self, name: str, version: str, key: str, packages: Sequence[ListedPackage]) -> None:
        first = self.written + 1
        url = self._channel.url
        rows = [
            (
                *(first + number, make_id(url, each.subdir, each.file_name), first, name, version, each.build),
                *(each.build_number, each.subdir, each.license, each.size, each.timestamp),
                *(bytes.fromhex(each.sha256 or ""), bytes.fromhex(each.md5 or ""), each.depends),
            )
            for number, each in enumerate(packages)
        ]
        self._connection.executemany("INSERT INTO packages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self.written += len(packages)
        row = (first, self.written, name, version, key)
        self._connection.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?)", row)


def _order(keyed: tuple[str, ListedPackage]) -> tuple[str, str, int, str, str]:
    key, package = keyed
    return key, package.version, package.build_number, package.build, package.subdir


def write_index(
    path: Path,
    channel: SearchedChannel,
    names: Iterable[tuple[str, Iterable[ListedPackage | None]]],
    summaries: Mapping[str, str],
    source: str,
) -> Written:
    """Write the index of `names`, which come in order, to `path`, where the old one is until then.

    `source` says what it is made from. Raises ChannelRefused, StorageFull, sqlite3.Error.
    """
    with atomic_write(path, durable=False) as file:
        # nobody else writes to the file; SQLite's own locks would end with the first of its descriptors
        address = f"{Path(file.name).as_uri()}?vfs=unix-none"
        with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
            connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
            connection.execute("BEGIN")
            writer = IndexWriter(connection, channel)
            for name, packages in names:
                writer.add(name, packages, summaries.get(name, ""))
            about = {"format": str(FORMAT), "source": source, "skipped": str(writer.skipped)}
            connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            connection.execute("COMMIT")
            connection.executescript(f"{_INDEXES} ANALYZE;")
    return Written(writer.written, writer.skipped)


def read_source(path: Path) -> str | None:
    """What the index at `path` is made from; None if there is none that can be used."""
    try:
        with contextlib.closing(open_index(path)) as connection:
            found = dict(connection.execute("SELECT name, value FROM about").fetchall())
    except sqlite3.Error:
        return None
    return found.get("source") if found.get("format") == str(FORMAT) else None


def open_index(path: Path) -> sqlite3.Connection:
    """Open it for reading. Raises sqlite3.Error."""
    return sqlite3.connect(address_of(path), uri=True)


def address_of(path: Path) -> str:
    """The file's address for SQLite, which need not look for changes: an index is replaced, not changed."""
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"
