"""Rings: manifests that nothing leads to but each other.

A subject leads to its referrers, and an index to its children. So an index that names its own subject, directly or
through others, closes a ring in which each manifest is needed as long as the next is. Every ring contains a manifest
whose subject is in the ring too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.engine import batches
from storage.garbage.rules import Rules


async def repositories_with_rings(connection: AsyncConnection, rules: Rules) -> list[str]:
    """The repositories that may have rings that are garbage."""
    row = tables.repository_manifest
    query = select(row.c.repository).where(row.c.subject.is_not(None), rules.is_unneeded(row))
    query = query.where(rules.subject_is_unneeded(row)).distinct().order_by(row.c.repository)
    return list((await connection.execute(query)).scalars())


async def find_rings(connection: AsyncConnection, rules: Rules, repository: str) -> list[str]:
    """The manifests of a repository's rings that are garbage."""
    row = tables.repository_manifest
    query = select(row.c.digest).where(row.c.repository == repository, row.c.subject.is_not(None))
    query = query.where(rules.is_unneeded(row), rules.subject_is_unneeded(row))
    unneeded = set((await connection.execute(query)).scalars())
    above: dict[str, set[str]] = defaultdict(set)
    seen, unseen = set(unneeded), set(unneeded)
    while unseen:
        for lower, upper in await _leading_to(connection, rules, repository, unseen):
            above[lower].add(upper)
        unseen = set().union(*(above[lower] for lower in unseen)) - seen
        seen |= unseen
        unseen = await _find_unneeded(connection, rules, repository, unseen)
        unneeded |= unseen
    return sorted(unneeded - _find_needed(unneeded, above))


def _find_needed(unneeded: Iterable[str], above: Mapping[str, set[str]]) -> set[str]:
    """The manifests that something leads to which is needed for its own sake."""
    below: dict[str, set[str]] = defaultdict(set)
    for lower, uppers in above.items():
        for upper in uppers:
            below[upper].add(lower)
    found: set[str] = set()
    reached = set(below) - set(unneeded)
    while reached:
        reached = set().union(*(below.get(upper, set()) for upper in reached)) - found
        found |= reached
    return found


async def _leading_to(
    connection: AsyncConnection, rules: Rules, repository: str, digests: Iterable[str]
) -> Sequence[tuple[str, str]]:
    """(lower, upper) for each existing manifest `upper` that leads to one of `digests`."""
    row, child = tables.repository_manifest, tables.manifest_child
    found: list[tuple[str, str]] = []
    for batch in batches(sorted(digests)):
        indexes = select(child.c.digest, child.c.manifest).where(
            child.c.repository == repository, child.c.digest.in_(batch), *rules.require_kept(child)
        )
        subjects = select(row.c.digest, row.c.subject).where(
            row.c.repository == repository, row.c.digest.in_(batch), rules.subject_is_there(row)
        )
        for query in (indexes, subjects):
            found += [(pair[0], pair[1]) for pair in await connection.execute(query)]
    return found


async def _find_unneeded(
    connection: AsyncConnection, rules: Rules, repository: str, digests: Iterable[str]
) -> set[str]:
    row = tables.repository_manifest
    found: set[str] = set()
    for batch in batches(sorted(digests)):
        query = select(row.c.digest).where(
            row.c.repository == repository, row.c.digest.in_(batch), rules.is_unneeded(row)
        )
        found.update((await connection.execute(query)).scalars())
    return found
