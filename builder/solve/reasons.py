"""Explains to a person why there is no solution: an unknown name, a missing version, or the solver's own words."""

from __future__ import annotations

import bisect
import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rattler import Channel, Gateway, MatchSpec, RepoDataRecord, Subdir, Version

from builder.errors import PackageRefused, PolicyRefusal, UnknownPackage, Unsatisfiable
from builder.names.image_name import find_close_names
from builder.names.items import write_typed
from builder.names.spec import Constraint, PackageItem, find_within
from builder.solve.sieve import Sieve, describe_removed

_LINES = 40
_LONGEST = 1 << 20
"""Characters of the solver's text that are read. It grows as the square of a chain of packages."""
_SHOWN = 6
_NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_LACKS = ", for which no candidates were found"
_LACK = re.compile(rf"(?<!\w)((__\w++)[^,\n]*+(?:,[^\s,][^,\n]*+)*+){_LACKS}")
"""A virtual package that the image lacks. A channel chooses the names in the line, so no part of it is tried twice."""


@dataclass(frozen=True)
class Wish:
    """One item with the match spec for the solver, and the channels (URL to name) that it may come from."""

    item: PackageItem
    spec: MatchSpec
    channels: dict[str, str]


async def raise_reason(
    gateway: Gateway,
    wishes: Sequence[Wish],
    platform: str,
    virtual: Sequence[tuple[str, str, str]],
    until: datetime.datetime | None,
    text: str,
    sieve: Sieve | None = None,
) -> None:
    """Raise UnknownPackage, Unsatisfiable, PolicyRefusal or PackageRefused for a solve that failed with `text`.

    The solver's text is the same for a name that no channel has and for a version that does not exist, so both are
    looked up.
    """
    for wish in wishes:
        await _raise_if_unknown(gateway, wish, platform)
    for wish in wishes:
        await _raise_if_unmatched(gateway, wish, platform, until, sieve)
    reason = make_readable(text, virtual)
    if sieve and (removed := sieve.describe()):
        reason = f"{reason}\nThese were not considered:\n{removed}"
    raise Unsatisfiable(platform, reason)


async def list_package_names(gateway: Gateway, urls: Iterable[str], platforms: Iterable[str]) -> set[str]:
    names = await gateway.names(
        [Channel(url) for url in urls], list(map(Subdir, platforms)), channel_relations="disabled"
    )
    return {name.normalized for name in names}


def make_readable(text: str, virtual: Sequence[tuple[str, str, str]]) -> str:
    """Rewrite the solver's explanation without its internal terms, in at most 40 lines."""
    text = text[:_LONGEST].removeprefix("Cannot solve the request because of: ").strip()
    text = re.sub(r"(?<=\w) \*(?=[ ,\n]|$)", "", text)
    lines = _drop_echoes(text.splitlines())
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"... and {len(lines) - _LINES} more lines"]
    has = {name: version for name, version, _ in virtual}

    def explain(match: re.Match[str]) -> str:
        version = has.get(match[2])
        return f"{match[1]}, and the image has {f'{match[2]} {version}' if version else f'no {match[2]}'}"

    return "\n".join(_LACK.sub(explain, line) if _LACKS in line else line for line in lines)


def _drop_echoes(lines: list[str]) -> list[str]:
    """Drop the lines that only repeat, for a single version, a conflict reported before."""
    kept = [line for line in lines if not line.endswith(", which conflicts with the versions reported above.")]
    for number, line in enumerate(kept):
        below = kept[number + 1] if number + 1 < len(kept) else ""
        if _measure_depth(below) <= _measure_depth(line):
            kept[number] = re.sub(
                r",? (which )?cannot be installed because there are no viable options:$",
                lambda match: ", which conflicts with the rest." if match[1] else " conflicts with the rest:",
                line,
            )
    return kept


def _measure_depth(line: str) -> int:
    return len(line) - len(line.lstrip("│├└─ "))


async def _raise_if_unknown(gateway: Gateway, wish: Wish, platform: str) -> None:
    name = wish.item.name
    known = await list_package_names(gateway, wish.channels, [platform, "noarch"])
    if name in known:
        return
    # `numpy.1.26` reads as a package name: an operator was forgotten
    forgotten = re.fullmatch(r"(.+?)\.(\d[^/]*)", name)
    close = (
        [f"{forgotten[1]}.like.{forgotten[2]}"]
        if forgotten and forgotten[1] in known
        else find_close_names(name, known)
    )
    raise UnknownPackage(name, tuple(wish.channels.values()), close, platform)


async def _raise_if_unmatched(
    gateway: Gateway, wish: Wish, platform: str, until: datetime.datetime | None, sieve: Sieve | None
) -> None:
    item = wish.item
    answer = await gateway.query(
        [Channel(url) for url in wish.channels],
        [Subdir(platform), Subdir("noarch")],
        [MatchSpec(item.name)],
        recursive=False,
        channel_relations="disabled",
    )
    records = [record for source in answer for record in source]
    where = f"in {', '.join(wish.channels.values())}"
    if not records:
        # not the channel's fault as a whole: its other packages may be sound
        raise PackageRefused(
            item.name, f"its channel's index has files of {item.name}, but no record has that name ({where})"
        )
    there = [record for record in records if until is None or _find_first_day(record) <= until]
    asked = f"{item.name} {item.version}".strip()
    if not there:
        date = until.date() if until else ""
        raise Unsatisfiable(
            platform, f"no {item.name} {where} is as old as {date}; the oldest is {_describe_oldest(records)}"
        )
    right = _match_versions(there, item)
    if not right:
        hint = f"; did you mean {meant}?" if (meant := _guess_meant(there, item)) else ""
        raise Unsatisfiable(platform, f"no {asked} {where}; available: {_list_versions(there, item.constraints)}{hint}")
    built = _match(right, f'{item.name}[build="{item.build}"]') if item.build else right
    if item.build and not built:
        builds = sorted({str(record.build) for record in right}, reverse=True)
        more = f" and {len(builds) - _SHOWN} more" if len(builds) > _SHOWN else ""
        part = find_within(item.build)
        lack = f"contains {part!r}" if part else f"is {item.build!r}"
        raise Unsatisfiable(
            platform, f"no build of {asked} {where} {lack}; available: {', '.join(builds[:_SHOWN])}{more}"
        )

    _raise_if_all_removed(sieve, asked, there, built)


def _raise_if_all_removed(
    sieve: Sieve | None, asked: str, there: Sequence[RepoDataRecord], wanted: Sequence[RepoDataRecord]
) -> None:
    """Raise PolicyRefusal if the policy allows none of the records that were asked for, of those that are there."""
    removed = [found for record in wanted if sieve and (found := sieve.judge(record))]
    if sieve is None or len(removed) < len(wanted):
        return
    allowed = [record for record in there if not sieve.judge(record)]
    advice = f"{_list_versions(allowed, ())} may be taken" if allowed else "ask for another package"
    raise PolicyRefusal(f"no {asked} may be taken: {describe_removed(removed)}; {advice}, or ask the administrator")


def _match(records: Sequence[RepoDataRecord], text: str) -> list[RepoDataRecord]:
    spec = MatchSpec(text, strict=False)
    return [record for record in records if record.matches(spec)]


def _match_versions(records: Sequence[RepoDataRecord], item: PackageItem) -> list[RepoDataRecord]:
    return _match(records, f'{item.name}[version="{item.version}"]') if item.version else list(records)


def _guess_meant(records: Sequence[RepoDataRecord], item: PackageItem) -> str | None:
    """Return `item` with `like` for `eq` if such versions exist: somebody asks for 3.11 and means 3.11.7."""
    constraints = {
        Constraint("=" if each.operator == "==" else each.operator, each.version) for each in item.constraints
    }
    looser = replace(item, constraints=tuple(sorted(constraints)))
    return write_typed(looser) if looser != item and _match_versions(records, looser) else None


def _find_first_day(record: RepoDataRecord) -> datetime.datetime:
    """Return since when the package is in the channel, as the solver sees it.

    One without a date is never old enough.
    """
    return record.indexed_timestamp or record.timestamp or _NEVER


def _describe_oldest(records: Sequence[RepoDataRecord]) -> str:
    since, version = min((_find_first_day(record), str(record.version)) for record in records)
    return "undated" if since == _NEVER else f"{version} of {since:%Y-%m-%d}"


def _list_versions(records: Sequence[RepoDataRecord], constraints: Sequence[Constraint]) -> str:
    """List the versions that exist: all if they are few, else those around the requested one, and the newest."""
    versions = sorted({record.version for record in records})
    if len(versions) <= _SHOWN:
        return ", ".join(map(str, versions))
    place = (
        bisect.bisect(versions, Version(constraints[0].version.removesuffix(".*"))) if constraints else len(versions)
    )
    start = max(0, min(place - _SHOWN // 2, len(versions) - _SHOWN))
    near = versions[start : start + _SHOWN]
    newest = "" if near[-1] == versions[-1] else f"; the newest is {versions[-1]}"
    return f"{', '.join(map(str, near))} ({len(versions)} in all{newest})"
