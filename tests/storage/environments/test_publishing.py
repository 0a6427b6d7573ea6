"""Images in the repositories of environments: shared as rows, within quotas, and without what is lost."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from storage.database import tables
from storage.database.account_tables import namespace
from storage.database.environment_tables import environment_image, package_locks
from storage.digest import Digest
from storage.environments.vocabulary import Made
from storage.errors import ManifestUnknown, QuotaExceeded
from tests.support.storage.content import push_of
from tests.support.storage.environments import DOCKER, REPOSITORY, Named, lock_of


async def test_an_image_is_given_whole(named: Named) -> None:
    build = await named.ask()
    digests = await named.publish(build, "one", "python", "numpy", "python")
    assert await named.content.manifests(REPOSITORY) == set(digests)
    assert await named.tags() == {str(build.id): digests[0]}
    assert await named.links() == {Digest.of(b"base"), Digest.of(b"layer of one")}
    published = await named.store.builds.find(build.id)
    assert (published.lock_key, published.image_key, published.size) == (lock_of("one"), "one", 10)
    assert {row.name for row in await named.content.stores.rows(select(package_locks))} == {"numpy", "python"}
    # again, as whoever takes the build over from a dead process
    assert await named.publish(build, "one") == digests
    await named.content.assert_sound()


async def test_nobody_reads_what_another_environment_has(named: Named) -> None:
    await named.make("one")
    await named.make("two", name="other")
    own = await named.links()
    assert Digest.of(b"layer of two") not in own
    assert await named.links("team/other") & own == {Digest.of(b"base")}


async def test_many_publish_one_image_at_once(named: Named) -> None:
    builds = [await named.ask(name=f"science{number}") for number in range(6)]
    digests = await named.content.make_image("one", b"base", b"layer")
    made = Made(lock_of("one"), "one", 1, ("python",))
    await asyncio.gather(*(named.store.building.publish(each.id, made, digests[0]) for each in builds))
    for build in builds:
        assert await named.content.manifests(build.repository) == set(digests)
    assert await named.content.count(environment_image) == 1


async def test_an_image_that_is_gone_is_made_again(named: Named) -> None:
    build = await named.ask()
    with pytest.raises(ManifestUnknown):
        await named.store.building.publish(build.id, Made(lock_of("one"), "nothing", 1), Digest.of(b""))
    digests = await named.content.make_image("one", b"base")
    row = tables.repository_manifest
    async with named.content.stores.database.writing() as connection:
        await connection.execute(row.delete().where(row.c.digest == digests[DOCKER]))
    with pytest.raises(ManifestUnknown):
        await named.store.building.publish(build.id, Made(lock_of("one"), "one", 1), digests[0])
    # its row went, or nobody would make it again
    assert await named.content.stores.catalog.images.find("one") is None
    assert await named.tags() == {}
    await named.publish(build, "one")
    assert len(await named.content.manifests(REPOSITORY)) == 3


async def test_an_environment_keeps_all_forms_of_an_image_that_gave_way(named: Named) -> None:
    build = await named.make("one")
    await named.lose_image("one")
    manifests = await named.content.manifests(REPOSITORY)
    assert len(manifests) == 3
    # the same image, made for another environment of what this one has
    digests = await named.content.make_image("one", b"base", b"layer of one")
    assert set(digests) == manifests
    again = await named.make("one")
    assert again.same_as == build.id
    await named.lose_image("one")
    await named.store.environments.delete_build(build.id)
    assert await named.content.manifests(REPOSITORY) == manifests


async def test_an_image_of_the_environment_alone_goes_with_its_row(named: Named) -> None:
    """One that was made with the credentials of a namespace is never in the repository of images on demand."""
    build = await named.ask()
    digests = await make_here(named, "own", b"secret")
    made = Made(lock_of("own"), "own", 1)
    await named.store.building.publish(build.id, made, digests[0])
    await named.complete(build)
    other = await named.ask(name="other")
    await named.store.building.publish(other.id, made, digests[0])
    await named.store.environments.delete("team", "science")
    assert await named.content.stores.catalog.images.find("own") is not None
    assert await named.content.manifests("team/other") == set(digests)
    await named.fail(other)
    assert await named.content.stores.catalog.images.find("own") is None
    assert await named.content.manifests("team/other") == set()


async def make_here(named: Named, key: str, *layers: bytes) -> list[Digest]:
    """Make an image in the environment's own repository."""
    for layer in layers:
        await named.content.stores.blobs.put(Digest.of(layer), [layer])
    manifest = push_of(layers, name=key)
    index = push_of((), [manifest.manifest.digest], name=f"{key} index")
    await named.content.stores.catalog.images.put(key, "lock", {}, REPOSITORY, [index, manifest])
    return [index.manifest.digest, manifest.manifest.digest]


# quotas


async def set_quota(named: Named, limit: int) -> None:
    await named.content.change(namespace, namespace.c.name == "team", quota=limit)


async def measure(named: Named) -> int:
    return await named.content.repositories.room.measure("team")


async def test_a_build_that_does_not_fit_leaves_nothing(named: Named) -> None:
    kept = await named.make("one")
    before, tags = await measure(named), await named.tags()
    await set_quota(named, before + 20)
    build = await named.ask()
    with pytest.raises(QuotaExceeded) as refused:
        await named.publish(build, "two")
    assert "delete builds or environments of team that nobody needs, and build it again" in str(refused.value)
    assert "condery namespace quota team SIZE" in str(refused.value)
    assert await measure(named) == before
    assert await named.tags() == tags
    assert (await named.store.builds.find(build.id)).image_key is None
    await named.fail(build, str(refused.value))
    assert len(await named.content.manifests(REPOSITORY)) == 3
    await set_quota(named, before * 3)
    await named.publish(await named.ask(), "two")
    assert (await named.store.builds.find(kept.id)).is_current


async def test_what_is_shared_counts_once(named: Named) -> None:
    await named.make("one")
    held = await measure(named)
    await set_quota(named, held)
    await named.make("one")
    await named.make("one", name="other")
    assert await measure(named) == held
    # nothing is added, though the quota is exceeded already
    await set_quota(named, 1)
    await named.make("one", name="third")
    await named.make("one")


async def test_what_is_deleted_makes_room(named: Named) -> None:
    first = await named.make("one")
    await set_quota(named, await measure(named) * 2 + 100)
    second = await named.make("two")
    with pytest.raises(QuotaExceeded):
        await named.publish(await named.ask(), "three")
    await named.store.environments.delete_build(first.id)
    await named.publish(await named.ask(), "three")
    assert (await named.store.builds.find(second.id)).is_current


async def test_an_image_made_in_the_repository_itself_has_the_quota_of_its_namespace(named: Named) -> None:
    build = await named.ask()
    digests = await make_here(named, "own", b"secret" * 100)
    await set_quota(named, 100)
    with pytest.raises(QuotaExceeded):
        await named.store.building.publish(build.id, Made(lock_of("own"), "own", 1), digests[0])
    assert await named.content.manifests(REPOSITORY) == set()
    assert await named.content.stores.catalog.images.find("own") is None


async def test_the_bytes_of_builds(named: Named) -> None:
    await named.make("one")
    await named.make("one")
    assert await named.store.settings.measure("team") == await named.store.settings.measure("team", "science") == 20
    assert await named.store.settings.measure("other") == 0
