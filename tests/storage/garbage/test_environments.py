"""What the garbage collection takes of environments, and what stays as long as their builds."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from storage.catalog.images import Images
from storage.catalog.made import Made
from storage.database import tables
from storage.database.log_tables import environment_log
from storage.digest import Digest
from storage.environments.logs import Appended
from storage.garbage.rehearsal import rehearse
from storage.garbage.rules import GarbagePolicy
from storage.quotas.limits import Limits, Retention
from tests.support.storage.ageing import make_old
from tests.support.storage.content import AT_ONCE, ROOT, Content, push_of
from tests.support.storage.environments import DOCKER, REPOSITORY, Named, lock_of

DAY = 86400.0


@pytest.fixture
def named(content: Content) -> Named:
    return Named.of(content)


async def collect(named: Named, policy: GarbagePolicy = AT_ONCE) -> dict[str, int]:
    """How many were deleted in the steps that deleted any; a rehearsal says the same."""
    told = await rehearse(named.content.stores.blobs, policy)
    done = await named.content.collect(policy)
    steps = {name: step.count for name, step in done.steps.items() if step.count}
    rehearsed = {name: step.count for name, step in told.steps.items() if step.count}
    assert {**rehearsed, "objects": 0} == {**steps, "objects": 0}
    return steps


async def test_an_image_stays_in_all_forms_as_long_as_its_build(named: Named) -> None:
    build = await named.ask()
    digests = await named.publish(build, "one")
    await named.complete(build)
    tags = await named.tags()
    await make_old(named.content)
    # the image on demand goes, and with it the copy in the repository of those
    assert (await collect(named))["images"] == 1
    assert await named.content.manifests(ROOT) == set()
    for _ in range(2):
        await make_old(named.content)
        assert await collect(named) == {}
    assert await named.content.manifests(REPOSITORY) == set(digests)
    assert await named.tags() == tags
    assert await named.links() == await named.content.blobs()
    await named.content.assert_sound()
    stored = await named.content.repositories.manifest(REPOSITORY, digests[DOCKER])
    assert stored is not None
    assert await named.store.builds.find_image("one") == {}


async def test_the_same_lock_is_built_again_when_its_image_gave_way(named: Named) -> None:
    build = await named.ask()
    digests = await named.publish(build, "one")
    await named.complete(build)
    await make_old(named.content)
    await collect(named)
    again = await named.ask()
    assert await named.publish(again, "one") == digests
    assert (await named.complete(again)).same_as == build.id
    await named.content.assert_sound()


async def test_room_for_other_images_on_demand_is_not_taken_from_environments(named: Named) -> None:
    build = await named.make("one")
    manifests = await named.content.manifests(REPOSITORY)
    await make_old(named.content)
    limits = Limits(root=ROOT, images=250)
    database = named.content.stores.database
    blob = b"x" * 40
    await named.content.stores.blobs.put(Digest.of(blob), [blob])
    await Images(database, Made(database, limits)).put("two", "lock", {}, ROOT, [push_of([blob], name="two")])
    assert await named.content.stores.catalog.images.find("one") is None
    assert await named.content.manifests(REPOSITORY) == manifests
    await make_old(named.content)
    await collect(named)
    assert await named.content.manifests(REPOSITORY) == manifests
    assert await named.store.builds.find_image(build.image_key or "") == {}
    await named.content.assert_sound()


async def test_what_is_deleted_goes(named: Named) -> None:
    first, second = await named.make("one"), await named.make("two")
    await named.store.environments.delete_build(first.id)
    await make_old(named.content)
    await collect(named)
    assert await named.content.blobs() == {Digest.of(b"base"), Digest.of(b"layer of two")}
    await named.store.environments.delete("team", "science")
    await make_old(named.content)
    await collect(named)
    assert await named.content.counts() == {}
    assert named.content.stores.files() == []
    assert second.is_finished


async def test_what_a_failed_build_had_published_goes(named: Named) -> None:
    build = await named.ask()
    await named.publish(build, "one")
    await named.fail(build)
    await make_old(named.content)
    await collect(named)
    assert await named.content.counts() == {}


async def test_an_untagged_manifest_of_another_repository_is_no_builds(named: Named) -> None:
    digests = await named.publish(await named.ask(), "one")
    other = push_of([b"base", b"layer of one"], name="one docker")
    assert other.manifest.digest == digests[DOCKER]
    for blob in (b"base", b"layer of one"):
        await named.content.push_blob("team/pushed", blob)
    await named.content.repositories.put_manifest("team/pushed", other)
    await make_old(named.content)
    await collect(named)
    assert await named.content.manifests("team/pushed") == set()
    assert await named.content.manifests(REPOSITORY) == set(digests)


async def test_rules_of_retention_are_not_about_builds(named: Named) -> None:
    builds = [await named.make(str(number)) for number in range(3)]
    await named.content.push_image("team/pushed", "old", b"data")
    await named.content.push_image("team/pushed", "new", b"other")
    await named.content.change(tables.tag, updated=1.0)
    tags = await named.tags()
    policy = replace(AT_ONCE, untagged_for=DAY, limits=Limits(retention=(Retention("*", last=1),)))
    assert (await collect(named, policy))["tags"] == 1
    assert await named.tags() == tags
    # what is no environment any more has no builds
    await named.store.environments.delete("team", "science")
    await collect(named, policy)
    assert await named.tags() == {}
    assert len(builds) == 3


async def test_locks_stay_until_their_builds_are_forgotten(named: Named) -> None:
    locks = named.content.stores.catalog.locks
    policy = replace(AT_ONCE, build_retention=-1, lock_retention=-1, locks_limit=1)
    build = await named.make("one")
    await locks.put(lock_of("one"), "spec", {})
    await locks.put(lock_of("two"), "spec", {})
    await named.content.change(tables.lock, created=1.0, used=1.0)
    assert (await collect(named, policy))["locks"] == 1
    await named.store.environments.delete("team", "science")
    assert "locks" not in await collect(named, policy)
    assert await locks.find(lock_of("one")) == {}
    await named.upkeep.forget([build.id])
    assert (await collect(named, policy))["locks"] == 1


async def test_logs_stay_until_they_are_deleted(named: Named) -> None:
    logs = named.store.logs
    build = await named.make("one")
    await logs.append([Appended(build.id, b"line\n", begins=True)])
    await logs.finish(build.id)
    [row] = await named.content.stores.rows(environment_log.select())
    assert row.digest is not None
    await named.store.environments.delete("team", "science")
    await make_old(named.content)
    await collect(named)
    assert await named.content.blobs() == {row.digest}
    assert (await logs.read(build.id, 0)).content
    await logs.delete(build.id)
    await make_old(named.content)
    await collect(named)
    assert await named.content.blobs() == set()
    assert named.content.stores.files() == []


async def test_builds_that_run_for_long_keep_what_they_publish(named: Named) -> None:
    build = await named.ask()
    digests = await named.publish(build, "one")
    await named.change(build, scheduled=time.time() - 100 * DAY)
    await make_old(named.content)
    await collect(named)
    assert await named.content.manifests(REPOSITORY) == set(digests)
    done = await named.complete(build)
    assert (await named.tags())["latest"] == digests[0]
    assert done.is_current
