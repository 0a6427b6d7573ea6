"""Builds of environments: what their tags mean, and how they end in whatever order."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from storage.catalog.builds import Builds
from storage.environments.publishing import write_day
from storage.environments.vocabulary import LARGEST_ID, BuildStatus, EnvironmentBuild, Made
from storage.errors import EnvironmentBuildUnknown
from tests.support.storage.environments import REPOSITORY, Named, lock_of

DAY = 86400


def day(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


async def meaning(named: Named, tag: str) -> int | None:
    found = await named.store.builds.find_for_tag(REPOSITORY, tag)
    return found.id if found else None


# tags


async def test_latest_means_the_current_build_if_that_is_complete(named: Named) -> None:
    first, second = await named.ask(), await named.ask()
    assert await meaning(named, "latest") == second.id
    await named.fail(second)
    assert await meaning(named, "latest") == second.id
    await named.publish(first)
    await named.complete(first)
    third = await named.ask()
    assert await meaning(named, "latest") == first.id != third.id


@pytest.mark.parametrize("tag", ["007", "0", "+7", "-7", "7.0", "١", str(2**31), str(2**63), "9" * 128])
async def test_a_number_that_is_no_id_as_we_write_it_means_no_build(named: Named, tag: str) -> None:
    for _ in range(7):
        build = await named.ask()
    assert await meaning(named, "7") == build.id
    assert await meaning(named, str(LARGEST_ID)) is None
    assert await meaning(named, tag) is None


async def test_an_id_means_a_build_of_this_environment_only(named: Named) -> None:
    await named.ask()
    other = await named.ask(name="other")
    assert await meaning(named, str(other.id)) is None


async def test_locks_by_twelve_digits_or_more(named: Named) -> None:
    first, second = await named.make("one", lock="a"), await named.make("two", lock="a")
    third = await named.make("three", lock="b")
    running = await named.ask()
    await named.publish(running, lock="b")
    key = lock_of("a")
    for length in (12, 13, 40, 64):
        assert await meaning(named, f"lock-{key[:length]}") == second.id
    assert await meaning(named, f"lock-{lock_of('b')[:12]}") == third.id
    for tag in ("", key[:11], key[:12].upper(), key[:12] + "g", key + "0", "%" * 12, "zzzzzzzzzzzz"):
        assert await meaning(named, f"lock-{tag}") is None
    await named.store.environments.delete_build(second.id)
    assert await meaning(named, f"lock-{key}") == first.id


async def test_a_day_means_the_last_build_that_was_complete_at_its_end(named: Named) -> None:
    first, second, third = [await named.make(name) for name in ("one", "two", "three")]
    for build, when in ((first, "2026-01-05"), (second, "2026-01-07"), (third, "2026-01-07")):
        await named.change(build, ended=day(when) + DAY - 1)
    failed = await named.fail(await named.ask())
    await named.change(failed, ended=day("2026-01-06"))
    meanings = {each: await meaning(named, f"2026-01-{each}") for each in ("04", "05", "06", "07", "08")}
    assert meanings == {"04": None, "05": first.id, "06": first.id, "07": third.id, "08": third.id}
    assert await meaning(named, "9999-12-31") == third.id
    assert await meaning(named, "0001-01-01") is None


@pytest.mark.parametrize("tag", ["2026-1-5", "20260105", "2026-W01-1", "2026-02-30", "2026-01-05-", "v1", "a" * 128])
async def test_other_tags_mean_no_build(named: Named, tag: str) -> None:
    await named.change(await named.make("one"), ended=day("2026-01-01"))
    assert await meaning(named, tag) is None


async def test_no_tag_means_a_build_of_a_deleted_environment(named: Named) -> None:
    build = await named.make("one")
    await named.store.environments.delete("team", "science")
    for tag in ("latest", str(build.id), f"lock-{lock_of('one')}", write_day(time.time())):
        assert await meaning(named, tag) is None


# ends


async def test_of_two_running_builds_the_later_one_becomes_current_in_any_order(named: Named) -> None:
    for order in ((0, 1), (1, 0)):
        builds = [await named.ask(), await named.ask()]
        for build in builds:
            await named.publish(build)
        for index in order:
            await named.complete(builds[index])
        tags = await named.tags()
        found = await named.store.environments.find("team", "science")
        assert found.current_build == builds[1].id
        assert tags["latest"] == tags[write_day(time.time())] == tags[str(builds[1].id)]


async def test_builds_that_end_at_once(named: Named) -> None:
    builds = [await named.ask() for _ in range(5)]
    for build in builds:
        await named.publish(build, lock="same")
    await asyncio.gather(*(named.complete(build) for build in reversed(builds)))
    tags = await named.tags()
    assert tags["latest"] == tags[f"lock-{lock_of('same')[:12]}"] == tags[str(builds[-1].id)]
    found = await named.store.environments.find("team", "science")
    assert found.current_build == builds[-1].id


async def test_the_lock_of_an_earlier_build(named: Named) -> None:
    first = await named.make("one", lock="a")
    assert first.same_as is None
    second = await named.make("one", lock="a")
    assert (second.same_as, second.status_info) == (
        first.id, f"the same lock as build {first.id}, so nothing was made anew",
    )  # fmt: skip
    await named.store.environments.delete_build(first.id)
    # a build that is there, so that one can follow it
    assert (await named.make("one", lock="a")).same_as == second.id
    assert (await named.make("one", lock="a", name="other")).same_as is None


async def test_a_build_that_fails_leaves_nothing_of_what_it_published(named: Named) -> None:
    kept = await named.make("one")
    manifests, tags = await named.content.manifests(REPOSITORY), await named.tags()
    build = await named.ask()
    await named.publish(build, "two")
    failed = await named.fail(build, "It is canceled.", canceled=True)
    assert (failed.status, failed.status_info) == (BuildStatus.CANCELED, "It is canceled.")
    assert (failed.lock_key, failed.image_key, failed.size, failed.is_current) == (None, None, 0, False)
    assert await named.content.manifests(REPOSITORY) == manifests
    assert await named.tags() == tags
    assert (await named.store.environments.find("team", "science")).current_build == kept.id


async def test_what_has_ended_stays_as_it_ended(named: Named) -> None:
    done, failed = await named.make("one"), await named.fail(await named.ask(), "It is wrong.")
    assert await named.fail(done, "It is late.") == done
    assert await named.complete(failed) == failed
    for build in (done, failed):
        with pytest.raises(EnvironmentBuildUnknown):
            await named.begin(build)
        with pytest.raises(EnvironmentBuildUnknown):
            await named.publish(build)


async def test_ending_and_publishing_at_once(named: Named) -> None:
    """Whoever is first: a build that was canceled has no tag."""
    for number in range(6):
        build = await named.ask()
        digests = await named.content.make_image(f"image {number}", b"base", str(number).encode())
        made = Made(lock_of(str(number)), f"image {number}", 1)
        done = await asyncio.gather(
            named.store.building.publish(build.id, made, digests[0]),
            named.store.building.end_left(build.id, "It is canceled.", canceled=True),
            return_exceptions=True,
        )
        assert isinstance(done[0], EnvironmentBuildUnknown | None)
        assert (await named.store.builds.find(build.id)).status == BuildStatus.CANCELED
        assert str(build.id) not in await named.tags()
        assert await named.content.manifests(REPOSITORY) == set()


async def test_begin_counts_the_first_time(named: Named) -> None:
    build = await named.ask()
    await named.begin(build)
    begun = await named.store.builds.find(build.id)
    assert (begun.status, begun.started is None) == (BuildStatus.BUILDING, False)
    await named.begin(build)
    assert (await named.store.builds.find(build.id)).started == begun.started
    await named.store.environments.delete("team", "science")
    with pytest.raises(EnvironmentBuildUnknown):
        await named.begin(build)


# left behind


async def test_builds_that_nobody_works_on(named: Named) -> None:
    builds = [await named.ask() for _ in range(4)]
    await named.fail(builds[0])
    assert builds[1].job_key is not None
    await Builds(named.content.stores.database).begin("job", builds[1].job_key, {}, "owner")
    later = time.time() + 10
    left = [each.id for each in await named.store.builds.list_left(later)]
    assert left == [builds[2].id, builds[3].id]
    assert await named.store.builds.list_left(builds[0].scheduled) == []
    await named.store.building.end_left(builds[3].id, "It is lost.")
    lost = await named.store.builds.find(builds[3].id)
    assert (lost.status, lost.status_info) == (BuildStatus.FAILED, "It is lost.")


# pulls and specifications


async def test_a_pull_is_recorded_now_and_then(named: Named) -> None:
    build = await named.make("one")
    assert build.pulled is None
    await named.store.builds.note_pull(build)
    pulled = await named.store.builds.find(build.id)
    assert pulled.pulled is not None
    await named.store.builds.note_pull(pulled)
    assert await named.store.builds.find(build.id) == pulled
    await named.change(build, pulled=time.time() - DAY)
    await named.store.builds.note_pull(await named.store.builds.find(build.id))
    again = await named.store.builds.find(build.id)
    assert again.pulled is not None
    assert again.pulled >= pulled.pulled


async def test_specifications(named: Named) -> None:
    builds: list[EnvironmentBuild] = [await named.ask("one"), await named.ask("two")]
    one, two = [await named.store.builds.find_specification(each.specification) for each in builds]
    assert [each.document["dependencies"][0] for each in (one, two)] == ["one", "two"]
    assert (one.id, one.request, one.name) == (builds[0].specification, {"items": ["one"]}, "science")


async def test_the_document_of_an_image_outlives_it(named: Named) -> None:
    build = await named.make("one")
    await named.lose_image("one")
    assert await named.content.stores.catalog.images.find("one") is None
    assert await named.store.builds.find_image("one") == {}
    assert await named.store.builds.find_image("two") is None
    assert (await named.store.builds.find(build.id)).image_key == "one"


async def test_the_text_of_a_lock(named: Named) -> None:
    await named.content.stores.catalog.locks.put("key", "spec", {"a": 1})
    assert await named.store.builds.find_lock_text("key") == '{"a": 1}'
    assert await named.store.builds.find_lock_text("other") is None


def test_the_days_of_the_calendar_are_utc() -> None:
    assert write_day(day("2026-01-05")) == "2026-01-05"
    assert write_day(day("2026-01-05") - 1) == "2026-01-04"
