"""Environments that are asked for, moved, deleted and made anew, by several writers at once, too."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.account_tables import namespace
from storage.database.environment_tables import environment, environment_build, specification
from storage.digest import Digest
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import BuildStatus, Cause, EnvironmentBuild
from storage.errors import (
    BlobUnknown,
    BuildStateWrong,
    EnvironmentBuildUnknown,
    EnvironmentProblem,
    EnvironmentTaken,
    EnvironmentUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
)
from tests.support.storage.environments import DOCKER, REPOSITORY, Named, lock_of

# asking


async def test_the_first_build_makes_namespace_and_environment(named: Named) -> None:
    build = await named.ask(description="for trials")
    assert (build.status, build.cause, build.is_current, build.is_finished) == ("QUEUED", "REQUEST", True, False)
    found = await named.store.environments.find("team", "science")
    assert (found.description, found.current_build, found.last_build) == ("for trials", build.id, build.id)
    assert (found.created_by, found.repository) == ("ann", REPOSITORY)
    assert REPOSITORY in named.store.environments.names
    [row] = await named.content.stores.rows(namespace.select())
    assert (row.name, row.created_by) == ("team", "ann")


async def test_a_later_build_is_the_last_but_not_the_current_one(named: Named) -> None:
    first = await named.ask(description="kept")
    second = await named.store.environments.ask_again(first.id, by="bob", cause=Cause.SCHEDULE)
    assert (second.specification, second.created_by, second.cause) == (first.specification, "bob", Cause.SCHEDULE)
    third = await named.ask("scipy")
    found = await named.store.environments.find("team", "science")
    assert (found.current_build, found.last_build, found.description) == (first.id, third.id, "kept")
    assert len({each.job_key for each in (first, second, third)}) == 3


async def test_a_description_is_that_of_a_complete_build(named: Named) -> None:
    """A build that fails changes nothing, and what somebody says meanwhile is not lost."""

    async def find() -> str:
        return (await named.store.environments.find("team", "science")).description

    await named.ask(description="none is complete")
    assert await find() == "none is complete"
    first = await named.ask(description="first")
    await named.publish(first)
    await named.complete(first)
    assert await find() == "first"
    failed = await named.ask("scipy", description="of no use")
    await named.store.building.end_left(failed.id, "no package scipy")
    assert await find() == "first"
    second, third = await named.ask(description="second"), await named.ask(description="third")
    assert await find() == "first"
    await named.publish(second)
    await named.complete(second)
    assert await find() == "second"
    await named.store.environments.change("team", "science", description="by hand")
    await named.publish(third)
    await named.complete(third)
    assert await find() == "by hand"


async def test_equal_specifications_of_an_environment_are_one_row(named: Named) -> None:
    builds = [await named.ask(), await named.ask(), await named.ask("scipy")]
    assert len({each.specification for each in builds}) == 2
    assert await named.content.count(specification) == 2


async def test_an_equal_specification_elsewhere_is_another_one(named: Named) -> None:
    """Its number and its time tell nothing of what somebody else has asked for, or had before it was deleted."""
    first = await named.ask()
    await named.content.change(specification, created=1.0)
    elsewhere = await named.ask(namespace="lab")
    await named.store.environments.delete("team", "science")
    again = await named.ask()
    known, other = [await named.store.builds.find_specification(each.specification) for each in (first, elsewhere)]
    assert len({first.specification, elsewhere.specification, again.specification}) == 3
    assert known.sha256 == other.sha256
    assert other.created > 1.0


async def test_what_is_recorded_with_a_request_is_undone_with_it(named: Named) -> None:
    async def refuse(_connection: AsyncConnection, _build: EnvironmentBuild) -> None:
        raise EnvironmentTaken("team", "science", "no")

    with pytest.raises(EnvironmentTaken):
        await named.ask(record=refuse)
    assert REPOSITORY not in named.store.environments.names
    assert await named.content.count(environment) == await named.content.count(namespace) == 0


async def test_names_that_clash_as_image_names(named: Named) -> None:
    await named.ask(name="Science")
    with pytest.raises(EnvironmentTaken, match="its images would be team/science, as those of Science are"):
        await named.ask(name="science")
    await named.store.environments.delete("team", "Science")
    assert (await named.ask(name="science")).name == "science"


async def test_a_repository_that_was_pushed_to_is_no_environments(named: Named) -> None:
    digest = await named.content.push_image(REPOSITORY, "v1", b"data")
    with pytest.raises(EnvironmentTaken, match="repository of pushed images; delete those"):
        await named.ask()
    await named.content.repositories.delete_manifest(REPOSITORY, digest)
    assert (await named.ask()).repository == REPOSITORY


async def test_who_asks_at_once_makes_one_environment(named: Named) -> None:
    builds = await asyncio.gather(*(named.ask(f"package{number % 3}") for number in range(8)))
    found = await named.store.environments.find("team", "science")
    assert await named.content.count(environment) == 1
    assert found.last_build == max(each.id for each in builds)
    assert found.current_build == min(each.id for each in builds)


async def test_of_names_that_clash_at_once_one_is_made(named: Named) -> None:
    names = ("science", "Science", "SCIENCE", "sciencE")
    done = await asyncio.gather(*(named.ask(name=name) for name in names), return_exceptions=True)
    assert [type(each) for each in done].count(EnvironmentTaken) == 3
    assert await named.content.count(environment) == 1


async def test_a_push_and_an_environment_at_once_are_not_both_there(named: Named) -> None:
    for number in range(5):
        name = f"science{number}"
        await named.content.push_blob(f"team/{name}", b"data")
        pushed, asked = await asyncio.gather(
            named.content.push_manifest(f"team/{name}", "v1", blobs=[b"data"]),
            named.ask(name=name),
            return_exceptions=True,
        )
        assert isinstance(pushed, Exception) != isinstance(asked, Exception)


# errors


async def test_what_there_is_not(named: Named) -> None:
    environments = named.store.environments
    await named.ask()
    with pytest.raises(EnvironmentUnknown, match="did you mean science"):
        await environments.find("team", "sciense")
    with pytest.raises(EnvironmentUnknown, match="did you mean science"):
        await environments.change("team", "SCIENCE", description="")
    with pytest.raises(EnvironmentUnknown):
        await environments.delete("other", "science")
    for method in (environments.delete_build, named.store.builds.find):
        with pytest.raises(EnvironmentBuildUnknown):
            await method(99)
    with pytest.raises(EnvironmentBuildUnknown):
        await environments.ask_again(99, by="ann")
    assert await environments.find_of_repository("team/other") is None
    assert await environments.find_many([99]) == []


async def test_which_builds_can_become_the_current_one(named: Named) -> None:
    environments = named.store.environments
    first, other = await named.make("one"), await named.make("two", name="other")
    waiting = await named.ask()
    with pytest.raises(EnvironmentBuildUnknown):
        await environments.change("team", "science", build_id=other.id)
    with pytest.raises(BuildStateWrong, match="it is QUEUED"):
        await environments.change("team", "science", build_id=waiting.id)
    with pytest.raises(EnvironmentUnknown):
        await environments.change("team", "nothing", build_id=first.id)
    await named.content.change(tables.tag, tables.tag.c.name == str(first.id), name="moved")
    with pytest.raises(ManifestUnknown):
        await environments.change("team", "science", build_id=first.id)
    assert (await environments.find("team", "science")).current_build == first.id


async def test_which_builds_can_be_deleted(named: Named) -> None:
    environments = named.store.environments
    first, running = await named.make("one"), await named.ask()
    with pytest.raises(BuildStateWrong, match="it is the current build of team/science"):
        await environments.delete_build(first.id)
    with pytest.raises(BuildStateWrong, match="it is QUEUED; cancel it first"):
        await environments.delete_build(running.id)
    await named.fail(running)
    assert (await environments.delete_build(running.id)).id == running.id
    assert (await environments.find("team", "science")).last_build == first.id


# moving


async def test_rolling_back_and_forward(named: Named) -> None:
    first, second = await named.make("one"), await named.make("two")
    tags = await named.tags()
    assert tags["latest"] == tags[str(second.id)] != tags[str(first.id)]
    stamp = named.content.changes.stamp(REPOSITORY)
    found = await named.store.environments.change("team", "science", build_id=first.id)
    assert found.current_build == first.id
    assert named.content.changes.stamp(REPOSITORY) != stamp
    assert (await named.tags())["latest"] == tags[str(first.id)]
    assert (await named.store.builds.find(first.id)).is_current
    await named.store.environments.change("team", "science", build_id=second.id)
    assert await named.tags() == tags


async def test_an_earlier_build_can_be_deleted_once_another_is_current(named: Named) -> None:
    first, second = await named.make("one"), await named.make("two")
    await named.store.environments.change("team", "science", build_id=first.id)
    await named.store.environments.delete_build(second.id)
    found = await named.store.environments.find("team", "science")
    assert (found.current_build, found.last_build) == (first.id, first.id)
    assert (await named.tags()).keys() == {"latest", str(first.id), _lock_tag("one"), _day(await named.tags())}


def _lock_tag(name: str) -> str:
    return f"lock-{lock_of(name)[:12]}"


def _day(tags: dict[str, str]) -> str:
    [day] = [each for each in tags if each.startswith("20")]
    return day


# deleting builds


async def test_a_deleted_build_takes_what_only_it_had(named: Named) -> None:
    first, second = await named.ask(), await named.ask()
    old, new = await named.publish(first, "one"), await named.publish(second, "two")
    await named.complete(first)
    await named.complete(second)
    assert await named.content.manifests(REPOSITORY) == {*old, *new}
    await named.store.environments.delete_build(first.id)
    # with the docker schema 2 form of the other, to which no tag leads
    assert await named.content.manifests(REPOSITORY) == set(new)
    assert old[DOCKER] != new[DOCKER]
    with pytest.raises(EnvironmentBuildUnknown):
        await named.store.builds.find(first.id)
    assert [each.id for each in await named.store.builds.find_many([first.id])] == [first.id]


async def test_builds_that_share_an_image_share_it_until_the_last(named: Named) -> None:
    builds = [await named.make("same") for _ in range(3)]
    manifests = await named.content.manifests(REPOSITORY)
    assert len(manifests) == 3
    for build in builds[:2]:
        await named.store.environments.delete_build(build.id)
        assert await named.content.manifests(REPOSITORY) == manifests


async def test_tags_of_lock_and_day_go_over_to_the_last_other_that_has_them(named: Named) -> None:
    # one lock on three bases
    builds = [await named.make(image, lock="same") for image in ("one", "two", "three")]
    tags = await named.tags()
    lock, day = _lock_tag("same"), _day(tags)
    assert tags[lock] == tags[day] == tags[str(builds[2].id)]
    await named.store.environments.change("team", "science", build_id=builds[0].id)
    await named.store.environments.delete_build(builds[2].id)
    tags = await named.tags()
    assert tags[lock] == tags[day] == tags[str(builds[1].id)]
    await named.store.environments.delete_build(builds[1].id)
    tags = await named.tags()
    assert tags.keys() == {"latest", str(builds[0].id), lock, day}
    assert len(set(tags.values())) == 1


async def test_a_file_that_was_pushed_goes_with_its_build(named: Named) -> None:
    first = await named.make("one")
    await named.make("two")
    # as who pushes an environment file does it, in the transaction of the request
    await named.content.stores.blobs.put(Digest.of(b"file"), [b"file"])
    await named.content.change(environment, repository="elsewhere")
    digest = await named.content.push_image(REPOSITORY, f"file-{first.id}", b"file")
    await named.content.change(environment, repository=REPOSITORY)
    await named.store.environments.delete_build(first.id)
    assert digest not in await named.content.manifests(REPOSITORY)


# taking back


async def test_a_request_that_is_taken_back_leaves_nothing(named: Named) -> None:
    build = await named.ask()
    await named.store.environments.take_back(build.id)
    with pytest.raises(EnvironmentUnknown):
        await named.store.environments.find("team", "science")
    assert REPOSITORY not in named.store.environments.names
    await named.store.environments.take_back(build.id)


async def test_a_later_request_that_is_taken_back_leaves_the_others(named: Named) -> None:
    builds = [await named.ask() for _ in range(3)]
    await asyncio.gather(*(named.store.environments.take_back(each.id) for each in builds[:2]))
    found = await named.store.environments.find("team", "science")
    assert (found.current_build, found.last_build) == (builds[2].id, builds[2].id)


# deleting and making anew


async def test_an_environment_that_is_made_anew_has_nothing_of_the_old_one(named: Named) -> None:
    await named.make("one")
    waiting = await named.ask()
    old = await named.store.environments.find("team", "science")
    manifests, blobs = await named.content.manifests(REPOSITORY), await named.links()
    assert [each.id for each in await named.store.environments.delete("team", "science")] == [waiting.id]
    assert REPOSITORY not in named.store.environments.names
    assert await named.tags() == {}
    build = await named.ask()
    new = await named.store.environments.find("team", "science")
    assert new.id > old.id
    assert [each.id for each in (await named.store.builds.list_all(Scope())).items] == [build.id]
    for digest in manifests:
        assert await named.content.repositories.manifest(REPOSITORY, Digest(digest)) is None
    for digest in blobs:
        with pytest.raises(BlobUnknown):
            await named.content.repositories.blob(REPOSITORY, Digest(digest))


async def test_a_build_of_a_deleted_environment_publishes_nothing_into_the_next_one(named: Named) -> None:
    late, published = await named.ask(), await named.ask()
    await named.publish(published, "published")
    await named.store.environments.delete("team", "science")
    await named.ask()
    with pytest.raises(EnvironmentBuildUnknown):
        await named.publish(late, "late")
    async with named.content.stores.database.writing() as connection:
        await named.store.building.complete(connection, published.id)
        await named.store.building.fail(connection, late.id, "It is late.")
    assert await named.tags() == {}
    assert await named.content.manifests(REPOSITORY) == set()
    [row] = await named.content.stores.rows(environment_build.select().where(environment_build.c.id == late.id))
    assert row.status == BuildStatus.QUEUED


async def test_an_environment_deleted_twice_at_once_goes_once(named: Named) -> None:
    await named.make("one")
    done = await asyncio.gather(
        *(named.store.environments.delete("team", "science") for _ in range(4)), return_exceptions=True
    )
    assert [type(each) for each in done].count(EnvironmentUnknown) == 3


# all at once


async def test_writers_at_once_neither_wait_for_each_other_nor_lose_anything(named: Named) -> None:
    """Whatever they do to an environment, a push, the garbage collection and each other."""
    environments = named.store.environments

    async def build(number: int) -> None:
        with contextlib.suppress(EnvironmentProblem, ManifestBlobUnknown, ManifestUnknown):
            await named.make(f"image {number % 3}")

    async def roll(number: int) -> None:
        with contextlib.suppress(EnvironmentProblem):
            found = await environments.find("team", "science")
            await environments.change("team", "science", build_id=(found.last_build or 0) - number % 2)

    async def clear(number: int) -> None:
        with contextlib.suppress(EnvironmentProblem):
            await environments.delete_build(number)
        if number == 5:
            with contextlib.suppress(EnvironmentProblem):
                await environments.delete("team", "science")

    async def push(number: int) -> None:
        with contextlib.suppress(ManifestBlobUnknown):
            await named.content.push_image(f"team/pushed{number % 2}", "v", b"base", str(number).encode())

    async def collect(_number: int) -> None:
        await named.content.collect()

    await named.make("image 0")
    work = (build, build, roll, clear, push)
    await asyncio.gather(*(each(number) for number in range(8) for each in work))
    await named.make("image 1")
    found = await environments.find("team", "science")
    tags = await named.tags()
    assert tags["latest"] == tags[str(found.current_build)]
    await named.content.assert_sound()
