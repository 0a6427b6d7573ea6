"""What a search has found in the indexes of several channels. Its methods block; call them in a thread."""

from __future__ import annotations

import sqlite3
import threading
import time
from array import array
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from builder.errors import SearchLimit
from builder.search.index_file import address_of
from builder.search.package import FoundPackage
from builder.search.question import Question

MOST_CHANNELS = 10
"""Files that SQLite attaches to one connection."""
_STEPS = 50_000
"""Steps of SQLite's machine between two looks at the clock; far below a millisecond."""

_BITS = 40
_ROW = (1 << _BITS) - 1
"""A row's number, below that of its channel."""

_ROWS = """
SELECT id, name, version, build, build_number, subdir, license,
    coalesce((SELECT summary FROM {schema}.summaries s WHERE s.name = p.name), ''),
    size, timestamp, sha256, md5, depends
FROM {schema}.packages p WHERE row BETWEEN ? AND ? ORDER BY row {direction}
"""


class Results:
    """`seconds` are for each call of a method."""

    def __init__(self, indexes: Sequence[Path], question: Question, seconds: float) -> None:
        """Open the indexes, at most MOST_CHANNELS, which are in the order of their channels' names.

        Raises SearchLimit, sqlite3.Error.
        """
        self._question = question
        self._channels = len(indexes)
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._begun: list[Generator[FoundPackage]] = []
        self._chosen: array[int] | None = None
        """The rows of groups, each with the number of its channel; nothing is kept of what is found but this."""
        # each call is from one thread, but the next may be from another
        self._connection = sqlite3.connect("file::memory:", uri=True, check_same_thread=False)
        try:
            self._connection.set_progress_handler(self._is_late, _STEPS)
            for number, path in enumerate(indexes):
                self._connection.execute(f"ATTACH ? AS c{number}", (address_of(path),))
            if not indexes:
                self.count = 0
            elif question.is_grouped(len(indexes)):
                # its rows are put together before the first of them is known, so that is done once
                self._chosen = array("q", (channel << _BITS | last for channel, _, last in self._read_spans(question)))
                self.count = len(self._chosen)
            else:
                self.count = self._read_count()
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise self._explain(error) from None
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the indexes, once a call that may still run in another thread has broken off."""
        self._seconds, self._deadline = 0.0, 0.0
        with self._lock:
            # a query that is not at its end is given up before its connection
            for packages in self._begun:
                packages.close()
            self._connection.close()

    def read_page(self, begin: int, size: int) -> list[FoundPackage]:
        """At most `size` packages from number `begin` on, counted from 0. Raises SearchLimit, sqlite3.Error."""
        before, size = min(begin, self.count), min(size, max(self.count - begin, 0))
        after = self.count - before - size
        if self._chosen is None and after < before:
            # from the nearer end: all names before a page are read
            return self._take(self._begin(after, backwards=True), size)[::-1]
        return self._take(self._begin(before), size)

    def read_all(self, size: int) -> Iterator[list[FoundPackage]]:
        """All packages, `size` at a time. Raises SearchLimit, sqlite3.Error."""
        packages = self._begin(0)
        while some := self._take(packages, size):
            yield some

    def _begin(self, begin: int, *, backwards: bool = False) -> Iterator[FoundPackage]:
        question = replace(self._question, descending=not self._question.descending) if backwards else self._question
        self._begun.append(self._read_from(begin, question))
        return self._begun[-1]

    def _take(self, packages: Iterator[FoundPackage], size: int) -> list[FoundPackage]:
        with self._lock:
            self._deadline = time.monotonic() + self._seconds
            try:
                return list(islice(packages, size))
            except sqlite3.OperationalError as error:
                raise self._explain(error) from None

    def _read_count(self) -> int:
        query, values = self._question.write_count(self._channels)
        count: int = self._connection.execute(query, values).fetchone()[0]
        return count

    def _read_spans(self, question: Question) -> Iterator[tuple[int, int, int]]:
        query, values = question.write_spans(self._channels)
        yield from self._connection.execute(query, values)

    def _read_from(self, begin: int, question: Question) -> Generator[FoundPackage]:
        """Packages in the order of `question`, from number `begin` on in that order."""
        descending = question.descending
        if self._chosen is not None:
            for each in islice(self._chosen, begin, None):
                row = each & _ROW
                yield from self._read_rows(each >> _BITS, row, row, descending)
            return
        for channel, first, last in self._read_spans(question) if self._channels else ():
            length = last - first + 1
            if begin >= length:
                begin -= length
            elif descending:
                yield from self._read_rows(channel, first, last - begin, descending)
                begin = 0
            else:
                yield from self._read_rows(channel, first + begin, last, descending)
                begin = 0

    def _read_rows(self, channel: int, first: int, last: int, descending: bool) -> Iterator[FoundPackage]:
        direction = "DESC" if descending else "ASC"
        query = _ROWS.format(schema=f"c{channel}", direction=direction)
        for *before, sha256, md5, depends in self._connection.execute(query, (first, last)):
            yield FoundPackage._make((channel, *before, sha256.hex() or None, md5.hex() or None, depends))

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _explain(self, error: sqlite3.OperationalError) -> Exception:
        return SearchLimit(self._seconds) if self._is_late() else error
