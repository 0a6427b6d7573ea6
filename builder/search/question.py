"""What is searched for, and the SQL that finds it in the indexes of several channels.

All channels are attached to one connection as `c0`, `c1` and so on, in the order of their names. What is found are
spans of rows: `(channel, first, last)`.
"""

# ruff: noqa: S608 - the queries are made of words of this module alone; what others wrote are parameters

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Column = Literal["channel", "name", "version"]
COLUMNS: tuple[Column, ...] = ("channel", "name", "version")
"""What is sorted by and told apart by."""

_SORTS = {
    "": ("channel", "name", "key", "first"),
    "channel": ("channel", "name", "key", "first"),
    "name": ("name", "channel", "key", "first"),
    "version": ("key", "name", "channel", "first"),
}


@dataclass(frozen=True)
class Question:
    """Packages whose name has `search` in it, or is it if `exact`, and whose build has `build` in it.

    `distinct_on` keeps, of all packages that are alike in these columns, the newest.
    """

    search: str = ""
    exact: bool = False
    build: str = ""
    distinct_on: frozenset[Column] = frozenset()
    sort_by: Column | Literal[""] = ""
    descending: bool = False

    def write_count(self, channels: int) -> tuple[str, Sequence[str]]:
        """The query for the number of packages in `channels` channels, unless they are grouped."""
        # no sort changes the number, and the names are the fewest
        tables, values = self._union(channels, sorts=False)
        if not self.distinct_on:
            return f"SELECT coalesce(sum(last - first + 1), 0) FROM ({tables})", values
        return f"SELECT count(*) FROM ({tables})", values

    def write_spans(self, channels: int) -> tuple[str, Sequence[str]]:
        """The query for the spans, in the order that is asked for."""
        tables, values = self._union(channels, sorts=True)
        order = ", ".join(f"{each}{' DESC' if self.descending else ''}" for each in _SORTS[self.sort_by])
        if not self.distinct_on:
            return f"SELECT channel, first, last FROM ({tables}) ORDER BY {order}", values
        if self._is_unique(channels):
            return f"SELECT channel, last, last FROM ({tables}) ORDER BY {order}", values
        # SQLite takes the other columns from the row that has the maximum
        newest = "max(key || printf('%09d', 9 - channel) || printf('%09d', last))"
        groups = f"SELECT channel, name, key, last AS first, last, {newest} FROM ({tables}) GROUP BY {self._group}"
        return f"SELECT channel, last, last FROM ({groups}) ORDER BY {order}", values

    def is_grouped(self, channels: int) -> bool:
        """Whether rows are grouped to tell them apart, so that all of them are read before the first is known."""
        return bool(self.distinct_on) and not self._is_unique(channels)

    @property
    def _group(self) -> str:
        return ", ".join(each for each in COLUMNS if each in self.distinct_on)

    def _table(self, *, sorts: bool) -> Literal["packages", "releases", "names"]:
        """The smallest table that tells apart what has to be told apart."""
        if self.build:
            return "packages"
        by_version = sorts and self.sort_by == "version" and "name" not in self.distinct_on
        return "releases" if "version" in self.distinct_on or by_version else "names"

    def _is_unique(self, channels: int) -> bool:
        """Whether no two rows of the table are alike in what is told apart."""
        own: dict[str, frozenset[Column]] = {"names": frozenset(["name"]), "releases": frozenset(["name", "version"])}
        wanted = set(self.distinct_on)
        if channels == 1:
            wanted.add("channel")
        if self.exact and self.search:
            wanted.add("name")
        table = self._table(sorts=True)
        return table in own and "channel" in wanted and own[table] <= wanted

    def _union(self, channels: int, *, sorts: bool) -> tuple[str, Sequence[str]]:
        parts: list[str] = []
        values: list[str] = []
        for number in range(channels):
            text, own = self._select(number, self._table(sorts=sorts))
            parts.append(text)
            values += own
        return " UNION ALL ".join(parts), values

    def _select(self, number: int, table: Literal["packages", "releases", "names"]) -> tuple[str, Sequence[str]]:
        schema = f"c{number}"
        named, values = "", [self.search.lower()] if self.search else []
        if self.search:
            named = "n.name = ?" if self.exact else "instr(n.name, ?)"
        if table == "names":
            condition = f" WHERE {named}" if named else ""
            return f"SELECT {number} AS channel, n.* FROM {schema}.names n{condition}", values
        begin = f"{schema}.names n CROSS JOIN " if named else ""
        if table == "releases":
            condition = f" WHERE {named} AND r.first BETWEEN n.first AND n.last" if named else ""
            return f"SELECT {number} AS channel, r.* FROM {begin}{schema}.releases r{condition}", values
        conditions = [named, "p.row BETWEEN n.first AND n.last"] if named else []
        condition = " AND ".join([*conditions, "instr(p.build, ?)"])
        return (
            f"SELECT {number} AS channel, p.row AS first, p.row AS last, r.name, r.version, r.key "
            f"FROM {begin}{schema}.packages p CROSS JOIN {schema}.releases r ON r.first = p.release WHERE {condition}"
        ), [*values, self.build]
