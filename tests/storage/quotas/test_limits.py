"""Rules as text, and that what they forbid does not happen, however many try at the same time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select

from storage.database import tables
from storage.errors import QuotaExceeded, TagImmutable
from storage.glob import glob
from storage.quotas.limits import Limits, Quota, Retention
from storage.quotas.patterns import Immutable
from storage.quotas.tag_limits import like
from storage.repositories.pushed import Repositories
from storage.repositories.uploads import Uploads
from storage.section import parse_size
from tests.support.storage.content import Content, push_of

AT_ONCE = 12


RULES: list[tuple[Callable[[str], Any], str, Any]] = [
    (Quota.parse, "team/* bytes=10GB tags=100", Quota("team/*", 10**10, 100)),
    (Quota.parse, "  *   tags=0 ", Quota("*", None, 0)),
    (Quota.parse, "a bytes=1KiB", Quota("a", 1024, None)),
    (Immutable.parse, "prod/*:v*", Immutable("prod/*", "v*")),
    (Immutable.parse, "*:*", Immutable("*", "*")),
    (Retention.parse, "ci/* keep-last=10", Retention("ci/*", 10, None, ())),
    (Retention.parse, "* keep-days=30 keep=v*+release-*", Retention("*", None, 30.0, ("v*", "release-*"))),
    (parse_size, "0", 0),
    (parse_size, "500MB", 500_000_000),
    (parse_size, "2 GiB", 2 << 30),
    (parse_size, "3t", 3 * 10**12),
    (parse_size, "17b", 17),
]


@pytest.mark.parametrize(("parse", "text", "rule"), RULES)
def test_rules(parse: Callable[[str], Any], text: str, rule: Any) -> None:
    assert parse(text) == rule


MISTAKES: list[tuple[Callable[[str], Any], str, str]] = [
    (Quota.parse, "", "does not begin with the name of a repository"),
    (Quota.parse, "bytes=10GB", "does not begin with the name of a repository"),
    (Quota.parse, "team/%", "does not begin with the name of a repository"),
    (Quota.parse, "team/*", "say bytes=10GB, tags=100, or both"),
    (Quota.parse, "team/* bytes", "'bytes' is not one of bytes=, tags="),
    (Quota.parse, "team/* files=3", "'files=3' is not one of bytes=, tags="),
    (Quota.parse, "team/* bytes=10XB", "'10XB' is not a size"),
    (Quota.parse, "team/* bytes=-1", "'-1' is not a size"),
    (Quota.parse, "team/* bytes=1.5GB", "'1.5GB' is not a size"),
    (Quota.parse, "team/* tags=many", "'many' is not a whole number"),
    (Quota.parse, "team/* tags=", "'' is not a whole number"),
    (Quota.parse, "team/* tags=1 tags=2", "'tags=2' is given twice"),
    (Immutable.parse, "", "is not REPOSITORY:TAG"),
    (Immutable.parse, "prod", "is not REPOSITORY:TAG"),
    (Immutable.parse, "prod:", "is not REPOSITORY:TAG"),
    (Immutable.parse, ":v1", "is not REPOSITORY:TAG"),
    (Immutable.parse, "prod:v 1", "is not REPOSITORY:TAG"),
    (Retention.parse, "", "does not begin with the name of a repository"),
    (Retention.parse, "ci/*", "every tag would be deleted"),
    (Retention.parse, "ci/* keep=v*", "every tag would be deleted"),
    (Retention.parse, "ci/* keep-last=-1", "'-1' is not a whole number"),
    (Retention.parse, "ci/* keep-last=1e3", "'1e3' is not a whole number"),
    (Retention.parse, "ci/* keep-last=3 keep=v|w", "'v|w' is not a pattern of tags"),
    (Retention.parse, "ci/* last=3", "'last=3' is not one of keep=, keep-days=, keep-last="),
]


@pytest.mark.parametrize(("parse", "text", "problem"), MISTAKES)
def test_mistakes_in_rules(parse: Callable[[str], Any], text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse(text)


NAMES = st.text("ab1._-/", max_size=12)


@given(pattern=st.text("ab1._-/*", min_size=1, max_size=8), name=NAMES)
def test_patterns_mean_the_same_to_the_database(pattern: str, name: str) -> None:
    with _SQLITE.connect() as connection:
        found = connection.execute(select(like(literal(name), pattern))).scalar()
    assert bool(found) == glob(pattern, name)


_SQLITE = create_engine("sqlite://")


@given(before=NAMES, middle=NAMES, after=NAMES)
def test_a_star_is_anything(before: str, middle: str, after: str) -> None:
    assert glob(f"{before}*{after}", before + middle + after)
    assert glob(before, before)
    assert not glob(before + "x", before + middle.replace("x", ""))


# rules against the store


def rules(*quotas: str, immutable: str | None = None) -> Limits:
    return Limits(tuple(map(Quota.parse, quotas)), (Immutable.parse(immutable),) if immutable else ())


def under(content: Content, limits: Limits) -> Content:
    """The same store for those to whom `limits` apply. Each transaction has a connection of its own."""
    repositories = Repositories(content.stores.database, content.changes, limits)
    return replace(content, repositories=repositories, uploads=Uploads(content.stores.blobs, repositories))


async def refusals(work: Iterable[Coroutine[Any, Any, Any]]) -> list[BaseException]:
    """Of all of it at once."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]


async def test_bytes_of_a_quota_are_never_exceeded(content: Content) -> None:
    """By blobs of 10 bytes that come at once to several repositories of a quota of 55."""
    team = under(content, rules("team/* bytes=55"))
    refused = await refusals(team.push_blob(f"team/r{n % 3}", f"{n:010}".encode()) for n in range(AT_ONCE))
    assert {(type(error), str(error)) for error in refused} == {
        (
            QuotaExceeded,
            "team/* may hold 55 bytes, but this would make it 60 (there are 50 now); "
            "delete images by their digests, which makes room at once; an administrator can raise quotas",
        )
    }
    # what a refused push had brought has given way to others
    assert 0 < await content.count(tables.link) <= 5


async def test_a_blob_that_several_repositories_have_counts_once(content: Content) -> None:
    team = under(content, rules("team/* bytes=10"))
    assert await refusals(team.push_blob(f"team/{n}", b"0123456789") for n in range(AT_ONCE)) == []
    assert await content.count(tables.link) == AT_ONCE
    with pytest.raises(QuotaExceeded):
        await team.push_blob("team/0", b"x")
    await team.push_blob("elsewhere", b"x")


async def test_tags_of_a_quota_are_never_exceeded(content: Content) -> None:
    team = under(content, rules("team/* tags=5")).repositories
    push, other = push_of([]), push_of([], name="other")
    refused = await refusals(team.put_manifest(f"team/r{n % 3}", push, [f"t{n}"]) for n in range(AT_ONCE))
    assert {type(error) for error in refused} == {QuotaExceeded}
    rows = await content.stores.rows(select(tables.tag))
    assert len(rows) == AT_ONCE - len(refused) == 5
    # a tag that is moved is not a new one, and a place that was left is free
    await team.put_manifest(rows[0].repository, other, [rows[0].name])
    await team.delete_tag(rows[0].repository, rows[0].name)
    await team.put_manifest("team/new", push, ["t"])


async def test_one_of_several_sets_an_immutable_tag(content: Content) -> None:
    prod = under(content, rules(immutable="prod/*:v*")).repositories
    pushes = [push_of([], name=str(number)) for number in range(AT_ONCE)]
    refused = await refusals(prod.put_manifest("prod/a", push, ["v1"]) for push in pushes)
    assert [type(error) for error in refused] == [TagImmutable] * (AT_ONCE - 1)
    stored = await prod.find_tagged("prod/a", "v1")
    assert stored
    [first] = [push for push in pushes if push.manifest == stored]
    await prod.put_manifest("prod/a", first, ["v1"])


async def test_immutable_tags_stay_whatever_they_are_reached_by(content: Content) -> None:
    prod = under(content, rules(immutable="prod/*:v*"))
    digest = await prod.push_image("prod/a", "v1", b"one")
    with pytest.raises(TagImmutable, match=r"immutable_tags has 'prod/\*:v\*'"):
        await prod.repositories.delete_tag("prod/a", "v1")
    with pytest.raises(TagImmutable):
        await prod.repositories.delete_manifest("prod/a", digest)
    with pytest.raises(TagImmutable):
        await prod.repositories.put_manifest("prod/a", push_of([]), ["latest", "v1"])
    assert await prod.tags("prod/a") == ["v1"]
    # the same once more, and whatever the rule does not name
    await prod.repositories.put_manifest("prod/a", push_of([b"one"]), ["v1", "latest"])
    await prod.repositories.delete_tag("prod/a", "latest")
    await prod.push_image("other/a", "v1", b"one")
    await prod.repositories.delete_manifest("other/a", digest)


async def test_a_digest_is_deleted_as_an_immutable_tag_comes_to_mean_it(content: Content) -> None:
    """Either the tag comes first, and both stay; or the deletion, and the push has brought the manifest again."""
    prod, push = under(content, rules(immutable="*:v*")).repositories, push_of([])
    for number in range(AT_ONCE):
        await prod.put_manifest(f"r{number}", push)
    work: list[Coroutine[Any, Any, Any]] = []
    for number in range(AT_ONCE):
        work.append(prod.delete_manifest(f"r{number}", push.manifest.digest))
        work.insert(number, prod.put_manifest(f"r{number}", push, ["v1"]))
    assert {type(error) for error in await refusals(work)} <= {TagImmutable}
    for number in range(AT_ONCE):
        assert await prod.find_tagged(f"r{number}", "v1") == push.manifest
