"""Limits on a record in a channel's index, checked before rattler's solver parses its dependencies.

rattler's parser of match specs recurses for each parenthesis: three thousand crash its process, and tens of thousands
of alternatives, or dozens of regular expressions, keep it busy for seconds. Reading an index parses no match spec, so
records are checked between reading and solving.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable, Mapping

import orjson
from rattler import Channel, Gateway, MatchSpec, RepoDataRecord, Subdir
from rattler.exceptions import InvalidMatchSpecError

from builder.errors import PackageRefused
from builder.solve.indexes.record_problem import quote
from storage.text import printable_line

LARGEST_RECORD = 256 << 10
"""Characters of a package's record. One with hundreds of dependencies has a tenth of that."""
LONGEST_SPEC = 4000
"""Characters of one match spec. Those in conda-forge and defaults have fewer than 500."""
MOST_PARENTHESES = 100
"""Parentheses in one match spec. Real ones have fewer than ten."""
MOST_SPECS = 2000
"""Match specs in one record. Real ones have fewer than 300."""
MOST_EXPRESSIONS = 10
"""Regular expressions in one record, all counted by their `^`. Real ones have hardly any. rattler may take a quarter of
a second and 10 MB to compile one of twenty characters."""

_SMALL = LONGEST_SPEC
"""Characters of a record that need not be parsed if it has few parentheses and regular expressions: nothing in it can
be too large."""
_NAME = re.compile(r"(?!__)[a-z0-9_][a-z0-9_.-]*")
"""Names of packages in a channel; virtual packages are in none."""
_PLAIN = re.compile(r"\s*([A-Za-z0-9_.-]+)(?:[\s=<>!~\[][^:#/]*)?")
"""Match specs that begin with their package's name. In others a channel, a namespace or an address comes before it, or
a colon is part of a value."""
_FOLLOWED = ("depends", "extra_depends")
"""The fields of a record that hold match specs of packages that a solve may add."""
_FIELDS = (*_FOLLOWED, "constrains")
"""The fields of a record that hold match specs."""


class KnownRecords:
    """The records that were checked: names of packages and of their dependencies, by channel and platform.

    They are queried by name, because rattler parses some match specs to follow dependencies itself.
    """

    def __init__(self) -> None:
        self._channels: dict[str, dict[str, dict[str, frozenset[str]]]] = {}

    def forget(self, url: str) -> None:
        """Forget a channel, whose records may differ from now on."""
        self._channels.pop(url, None)

    async def check(self, gateway: Gateway, channels: Mapping[str, str], platform: str, names: Iterable[str]) -> None:
        """Check all records that a solve for `names` may consider.

        Raises PackageRefused for the first that is too large. `channels` maps URL to name.
        """
        known = {url: self._channels.setdefault(url, {}).setdefault(platform, {}) for url in channels}
        seen: set[str] = set()
        wanted = set(names)
        while wanted:
            seen |= wanted
            missing = sorted(name for name in wanted if not all(name in each for each in known.values()))
            if missing:
                answer = await gateway.query(
                    [Channel(url) for url in channels],
                    [Subdir(platform), Subdir("noarch")],
                    missing,
                    recursive=False,
                    channel_relations="disabled",
                )
                # the answer has a list for each platform of each channel, in this order
                pairs = zip(answer[::2], answer[1::2], strict=True)
                learned = await asyncio.to_thread(_group_dependencies, channels, pairs, missing)
                for url, dependencies in learned.items():
                    known[url].update(dependencies)
            wanted = {need for each in known.values() for name in wanted for need in each[name]} - seen


def _group_dependencies(
    channels: Mapping[str, str], answer: Iterable[tuple[list[RepoDataRecord], ...]], names: Iterable[str]
) -> dict[str, dict[str, frozenset[str]]]:
    """Map each of `names` to its dependencies, by channel. Raises PackageRefused."""
    learned = {}
    for (url, channel), lists in zip(channels.items(), answer, strict=True):
        found: dict[str, set[str]] = {name: set() for name in names}
        for record in itertools.chain.from_iterable(lists):
            text = record.to_json()
            if not _is_small(text) and (problem := _find_problem(text)):
                raise PackageRefused(
                    printable_line(record.file_name[:100]),
                    f"its record in the channel's index has {problem} (channel {channel})",
                )
            # not `record.depends`, and each spec once: one request can fetch all records that conda-forge has for a
            # name
            document = orjson.loads(text)
            specs = found.setdefault(document["name"].lower(), set())
            for field in _FOLLOWED:
                specs.update(_list_specs(document.get(field)))
        learned[url] = {
            name: frozenset(filter(_NAME.fullmatch, map(_read_name, specs))) for name, specs in found.items()
        }
    return learned


def _read_name(spec: str) -> str:
    """Return the package that rattler reads from a match spec within the limits; empty if it reads none."""
    if plain := _PLAIN.fullmatch(spec):
        return plain[1].lower()
    try:
        name = MatchSpec(spec, strict=False).name
    except InvalidMatchSpecError:
        return ""
    return getattr(name, "normalized", "")


def describe_excess(text: str) -> str | None:
    """Describe how a record, given as JSON, exceeds the limits; None if it does not."""
    if len(text) > LARGEST_RECORD:
        return f"{len(text)} characters; at most {LARGEST_RECORD} are allowed"
    return None


def _is_small(text: str) -> bool:
    """Whether a record, given as JSON, is within the limits whatever is in it."""
    return len(text) <= _SMALL and text.count("(") <= MOST_PARENTHESES and text.count("^") <= MOST_EXPRESSIONS


def _find_problem(text: str) -> str | None:
    if problem := describe_excess(text):
        return problem
    document = orjson.loads(text)
    specs = [spec for field in _FIELDS for spec in _list_specs(document.get(field))]
    if len(specs) > MOST_SPECS:
        return f"{len(specs)} dependencies and constraints; at most {MOST_SPECS} are allowed"
    if (count := sum(spec.count("^") for spec in specs)) > MOST_EXPRESSIONS:
        return f"{count} regular expressions; at most {MOST_EXPRESSIONS} are allowed"
    for spec in specs:
        if len(spec) > LONGEST_SPEC:
            return f"a dependency of {len(spec)} characters; at most {LONGEST_SPEC} are allowed: {quote(spec)}"
        if (count := spec.count("(")) > MOST_PARENTHESES:
            return f"a dependency with {count} parentheses; at most {MOST_PARENTHESES} are allowed: {quote(spec)}"
    return None


def _list_specs(value: object) -> Iterable[str]:
    """Yield the strings in a field: a list of them, or a list for the name of each extra."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _list_specs(each)
