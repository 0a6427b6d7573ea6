"""Garbage collection: what goes, what stays, and what happens to those who push meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from storage.database import tables
from storage.digest import Digest
from storage.errors import UploadUnknown, WriteExpired
from storage.garbage.rehearsal import rehearse
from storage.quotas.limits import Limits, Retention
from storage.quotas.patterns import Immutable
from tests.support.storage.content import AT_ONCE, NEVER, ROOT, Content, push_of

DAY = 86400.0

Setting = Callable[[Content], Awaitable[object]]


async def tagged_image(content: Content) -> None:
    await content.push_image("a", "v1", b"one", b"two")


async def tagged_index(content: Content) -> None:
    inner = await content.push_image("a", None, b"one")
    middle = await content.push_manifest("a", None, children=[inner])
    await content.push_manifest("a", "v1", children=[middle, Digest.of(b"never pushed")])


async def referrers(content: Content) -> None:
    subject = await content.push_image("a", "v1", b"one")
    signature = await content.push_manifest("a", None, subject=subject, name="signature")
    await content.push_manifest("a", None, subject=signature, name="signature of the signature")


async def referrer_of_a_child(content: Content) -> None:
    child = await content.push_image("a", None, b"one")
    await content.push_manifest("a", "v1", children=[child])
    await content.push_manifest("a", None, subject=child, name="signature")


async def on_demand_image(content: Content) -> None:
    await content.make_image("i", b"one", b"two")


async def two_images_that_share(content: Content) -> None:
    await content.make_image("i", b"one", b"two")
    await content.make_image("j", b"two", b"three")


async def artifact(content: Content) -> None:
    blob = await content.stores.blobs.put(Digest.of(b"file"), [b"file"])
    await content.stores.catalog.artifacts.put("f", "lock", {}, blob.digest)


async def layer_of_fragments(content: Content) -> None:
    digest = await content.put_join("layer", b"head", "f" * 64, b"tail")
    await content.link("a", await content.stores.blobs.find(digest))
    async with content.stores.database.writing() as connection:
        await connection.execute(tables.manifest.insert().values(digest="sha256:m", body=b"m", created=0))
        await connection.execute(
            tables.repository_manifest.insert().values(
                repository="a", digest="sha256:m", media_type="x", size=1, pushed=0
            )
        )
        await connection.execute(
            tables.manifest_blob.insert().values(repository="a", manifest="sha256:m", digest=digest)
        )
        await connection.execute(tables.tag.insert().values(repository="a", name="v1", digest="sha256:m", updated=0))


LIVE: list[Setting] = [
    tagged_image,
    tagged_index,
    referrers,
    referrer_of_a_child,
]
LIVE_WHILE_USED: list[Setting] = [on_demand_image, two_images_that_share, artifact]


@pytest.mark.parametrize("setting", [*LIVE, layer_of_fragments])
async def test_what_a_tag_leads_to_stays(content: Content, setting: Setting) -> None:
    await setting(content)
    before = await content.counts()
    report = await content.collect()
    assert {step.name: step.count for step in report.steps.values() if step.count} == {}
    assert await content.counts() == before
    await content.assert_sound()


@pytest.mark.parametrize("setting", LIVE)
async def test_without_the_tag_all_of_it_goes(content: Content, setting: Setting) -> None:
    await setting(content)
    await content.repositories.delete_tag("a", "v1")
    await content.collect()
    assert await content.counts() == {}
    assert content.stores.files() == []


@pytest.mark.parametrize("setting", LIVE_WHILE_USED)
async def test_what_is_made_on_demand_stays_while_it_is_used(content: Content, setting: Setting) -> None:
    await setting(content)
    before = await content.counts()
    for retention in (0, DAY):
        await content.collect(replace(AT_ONCE, image_retention=retention))
        assert await content.counts() == before
    await content.assert_sound()
    await content.collect()
    assert await content.counts() == {}
    assert content.stores.files() == []


async def test_images_stay_when_the_root_is_called_otherwise_now(content: Content) -> None:
    await on_demand_image(content)
    before = await content.counts()
    await content.collect(replace(AT_ONCE, root="another", image_retention=DAY))
    assert await content.counts() == before
    await content.collect(replace(AT_ONCE, root="another"))
    assert await content.counts() == {}


async def test_of_images_that_share_each_keeps_its_own(content: Content) -> None:
    await two_images_that_share(content)
    await content.change(tables.image, tables.image.c.key == "i", used=time.time() - 2 * DAY)
    report = await content.collect(replace(AT_ONCE, image_retention=DAY))
    assert report.steps["images"].count == 1
    assert await content.blobs() == {Digest.of(b"two"), Digest.of(b"three")}
    assert len(await content.manifests(ROOT)) == 3


@pytest.mark.parametrize("setting", [*LIVE, *LIVE_WHILE_USED])
async def test_what_is_young_stays(content: Content, setting: Setting) -> None:
    await setting(content)
    if setting in LIVE:
        await content.repositories.delete_tag("a", "v1")
    before = await content.counts()
    await content.collect(NEVER)
    assert await content.counts() == before
    await content.assert_sound()


async def test_a_rehearsal_tells_the_same_and_changes_nothing(content: Content) -> None:
    for setting in (*LIVE, *LIVE_WHILE_USED):
        await setting(content)
    upload = await content.chunk(await content.uploads.open("b", "me"), b"part")
    await content.chunk(upload, b"another part")
    await content.push_blob("b", b"never named")
    await content.stores.blobs.reserve(3)
    await content.change(tables.pending, expires=1.0)
    limits = Limits(retention=(Retention.parse("a keep-last=0"),))
    before, files = await content.counts(), content.stores.files()
    policy = replace(AT_ONCE, untagged_for=1e-6, limits=limits)
    rehearsed = await rehearse(content.stores.blobs, policy)
    assert await content.counts() == before
    assert content.stores.files() == files
    report = await content.collect(policy)
    assert (rehearsed.dry_run, report.dry_run) == (True, False)
    assert rehearsed.to_json()["steps"] == report.to_json()["steps"]
    assert rehearsed.bytes == report.bytes > 0
    # the tags that this one took are noted with this moment
    rehearsed = await rehearse(content.stores.blobs, policy)
    report = await content.collect(policy)
    assert rehearsed.to_json()["steps"] == report.to_json()["steps"]
    assert report.steps["manifests"].count > 0
    assert await content.counts() == {}
    assert content.stores.files() == []


async def test_a_graph_of_garbage_is_rehearsed_whole(content: Content) -> None:
    await tagged_index(content)
    await referrers(content)
    await content.repositories.delete_tag("a", "v1")
    count = await content.count(tables.manifest)
    rehearsed = await rehearse(content.stores.blobs, AT_ONCE)
    report = await content.collect()
    assert rehearsed.to_json()["steps"] == report.to_json()["steps"]
    assert report.steps["manifests"].count == count == 5


@pytest.mark.parametrize("tagged", [True, False])
async def test_a_ring_of_manifests(content: Content, tagged: bool) -> None:
    """Each needs the next: an index of its own subject, and of an index of that."""
    image = await content.push_image("a", None, b"one")
    signature = await content.push_manifest("a", None, subject=image, name="signature")
    inner = await content.push_manifest("a", None, children=[image], subject=image)
    await content.push_manifest("a", None, children=[inner], subject=signature)
    await content.push_manifest("a", None, subject=inner, name="of the inner one")
    if tagged:
        await content.push_manifest("a", "v1", children=[signature])
    before = await content.counts()
    rehearsed = await rehearse(content.stores.blobs, AT_ONCE)
    report = await content.collect()
    assert rehearsed.to_json()["steps"] == report.to_json()["steps"]
    if tagged:
        assert await content.counts() == before
        await content.repositories.delete_tag("a", "v1")
        report = await content.collect()
    assert report.steps["manifests"].count == 5 + tagged
    assert await content.counts() == {}


async def test_a_referrer_of_what_is_not_here_goes_by_its_own_age(content: Content) -> None:
    absent = Digest.of(b"absent")
    await content.push_manifest("a", "kept", children=[absent])
    signature = await content.push_manifest("a", None, subject=absent)
    await content.collect(NEVER)
    assert signature in await content.manifests("a")
    await content.collect()
    assert signature not in await content.manifests("a")


async def test_untagged_manifests_may_be_kept_for_ever(content: Content) -> None:
    digest = await content.push_image("a", None, b"one")
    await content.change(tables.repository_manifest, pushed=1.0, untagged=1.0)
    await content.collect(replace(AT_ONCE, untagged_for=0))
    assert await content.manifests("a") == {digest}
    await content.collect(replace(AT_ONCE, untagged_for=DAY))
    assert await content.manifests("a") == set()


async def test_a_manifest_pushed_again_is_young_again(content: Content) -> None:
    digest = await content.push_image("a", None, b"one")
    await content.change(tables.repository_manifest, pushed=1.0, untagged=1.0)
    await content.push_image("a", None, b"one")
    await content.collect(replace(AT_ONCE, untagged_for=DAY))
    assert await content.manifests("a") == {digest}


async def test_a_blob_stays_while_any_repository_has_it(content: Content) -> None:
    await content.push_image("a", "v1", b"one")
    assert await content.repositories.mount("b", Digest.of(b"one"), "a", lambda _: True)
    await content.push_manifest("b", "v1", blobs=[b"one"])
    await content.repositories.delete_tag("a", "v1")
    await content.collect()
    assert await content.stores.content(Digest.of(b"one")) == b"one"
    assert not await content.repositories.exists("a")
    await content.repositories.delete_tag("b", "v1")
    await content.collect()
    assert await content.counts() == {}


async def test_blobs_that_no_manifest_names_go_after_the_grace_time(content: Content) -> None:
    await content.push_blob("a", b"one")
    await content.collect(replace(AT_ONCE, grace=DAY))
    assert await content.blobs() == {Digest.of(b"one")}
    await content.change(tables.link, created=time.time() - 2 * DAY)
    report = await content.collect(replace(AT_ONCE, grace=DAY))
    # it may just have been mounted, pushed again or found by a build
    assert (report.steps["links"].count, report.steps["blobs"].count) == (1, 0)
    await content.change(tables.blob, used=time.time() - 2 * DAY)
    report = await content.collect(replace(AT_ONCE, grace=DAY))
    assert (report.steps["blobs"].count, report.steps["blobs"].bytes, report.bytes) == (1, 3, 3)
    assert content.stores.files() == []


async def test_blobs_of_a_push_wait_for_its_longest_upload(content: Content) -> None:
    await content.push_blob("a", b"first layer")
    upload = await content.uploads.open("a", "me")
    old = time.time() - 3 * DAY
    await content.change(tables.link, created=old - DAY / 2)
    await content.change(tables.blob, used=old - DAY / 2)
    await content.change(tables.upload, created=old)
    policy = replace(AT_ONCE, grace=DAY, upload_seconds=DAY)
    await content.collect(policy)
    assert await content.blobs() == {Digest.of(b"first layer")}
    await content.uploads.cancel(upload)
    await content.collect(policy)
    assert await content.blobs() == set()


async def test_an_upload_does_not_keep_what_was_garbage_before_it(content: Content) -> None:
    await content.push_blob("a", b"old")
    await content.change(tables.link, created=1.0)
    await content.change(tables.blob, used=1.0)
    await content.uploads.open("a", "me")
    await content.collect(replace(AT_ONCE, grace=DAY, upload_seconds=DAY))
    assert await content.blobs() == set()
    # but the repository is there as long as somebody pushes to it
    assert await content.repositories.exists("a")


async def test_uploads_expire_with_their_bytes(content: Content) -> None:
    upload = await content.chunk(await content.uploads.open("a", "me"), b"part")
    await content.chunk(await content.uploads.open("a", "me"), b"of another")
    await content.change(tables.upload, tables.upload.c.id == upload.id, touched=time.time() - 2 * DAY)
    report = await content.collect(replace(AT_ONCE, upload_seconds=DAY))
    assert (report.steps["uploads"].count, report.steps["uploads"].bytes) == (1, 4)
    assert len(content.stores.files()) == 1
    with pytest.raises(UploadUnknown):
        await content.chunk(upload, b"more")
    with pytest.raises(UploadUnknown):
        await content.uploads.finish(upload, Digest.of(b"part"))
    assert await content.stores.pending() == []


async def test_what_a_running_build_has_made_stays(content: Content) -> None:
    blob = await content.stores.blobs.put(Digest.of(b"layer"), [b"layer"])
    now = time.time()
    await content.change(tables.blob, used=now - 2 * DAY)
    await content.stores.catalog.builds.begin("b", "key", {}, "me/1/2")
    await content.change(tables.build, created=now - 3 * DAY)
    await content.collect()
    assert await content.blobs() == {blob.digest}
    # its owner is dead, and nobody has taken it over
    await content.change(tables.build, heartbeat=now - 1000)
    await content.collect()
    assert await content.blobs() == set()


async def test_a_layer_goes_with_its_blob_and_gives_its_fragments_up(content: Content) -> None:
    await content.put_join("layer", b"head", "f" * 64, b"tail")
    await content.collect(NEVER)
    assert await content.count(tables.fragment_use) == 1
    report = await content.collect()
    # its bytes are those of fragments, which are a cache's
    assert (report.steps["blobs"].count, report.steps["blobs"].bytes) == (1, 0)
    assert await content.counts() == {}


async def test_abandoned_objects_go_after_their_time_and_cannot_be_claimed_then(content: Content) -> None:
    blobs = content.stores.blobs
    [early, late] = await blobs.reserve(2)
    for key in (early, late):
        content.receive(key, b"data")
    await content.change(tables.pending, tables.pending.c.key == early, expires=time.time() - 1)
    report = await content.collect()
    assert report.steps["objects"].count == 1
    assert content.stores.files() == [late]
    with pytest.raises(WriteExpired):
        await content.uploads.store("a", Digest.of(b"data"), content.receive(early, b"data"))
    await content.uploads.store("a", Digest.of(b"data"), content.receive(late, b"data"))
    assert await content.repositories.blob("a", Digest.of(b"data"))


async def test_bytes_outlive_their_row_for_those_who_have_just_found_it(content: Content) -> None:
    await content.push_blob("a", b"one")
    collecting = asyncio.create_task(content.collect(replace(AT_ONCE, linger=3600)))
    while await content.blobs():
        await asyncio.sleep(0.01)
    assert len(content.stores.files()) == 1
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    await content.change(tables.pending, expires=time.time() - 1)
    await content.collect()
    assert content.stores.files() == []


async def test_repositories_that_changed_are_marked(content: Content) -> None:
    await content.push_image("manifests", None, b"one")
    await content.push_blob("links", b"two")
    await content.push_image("tags", "v1", b"three")
    await content.push_image("untouched", "v1", b"four")
    marked: list[str] = []
    content.changes.mark = marked.append  # type: ignore[method-assign, assignment] # listens
    await content.collect(replace(AT_ONCE, limits=Limits(retention=(Retention.parse("tags keep-last=0"),))))
    assert set(marked) == {"manifests", "links", "tags"}


# retention


def rule(text: str) -> Limits:
    return Limits(retention=(Retention.parse(text),))


RETENTION = [
    ("a keep-last=2", ["t3", "t4"]),
    ("a keep-last=0", []),
    ("a keep-last=9", ["t0", "t1", "t2", "t3", "t4"]),
    ("a keep-days=3", ["t2", "t3", "t4"]),
    ("a keep-last=1 keep-days=2", ["t3", "t4"]),
    ("a keep-last=4 keep-days=2", ["t1", "t2", "t3", "t4"]),
    ("a keep-last=1 keep=t0+*2", ["t0", "t2", "t4"]),
    ("b keep-last=1", ["t0", "t1", "t2", "t3", "t4"]),
    ("* keep-last=1", ["t4"]),
]


@pytest.mark.parametrize(("text", "kept"), RETENTION)
async def test_retention(content: Content, text: str, kept: list[str]) -> None:
    """The tags t0 to t4 are 4.5 to 0.5 days old."""
    for number in range(5):
        await content.push_image("a", f"t{number}", b"one")
        age = (4.5 - number) * DAY
        await content.change(tables.tag, tables.tag.c.name == f"t{number}", updated=time.time() - age)
    policy = replace(NEVER, limits=rule(text))
    assert (await rehearse(content.stores.blobs, policy)).steps["tags"].count == 5 - len(kept)
    report = await content.collect(policy)
    assert report.steps["tags"].count == 5 - len(kept)
    assert await content.tags("a") == kept
    assert (await content.collect(policy)).steps["tags"].count == 0


async def test_of_tags_of_one_moment_as_many_stay_as_the_rule_says(content: Content) -> None:
    await content.repositories.put_manifest("a", push_of([]), [f"t{number:03}" for number in range(300)])
    report = await content.collect(replace(NEVER, limits=rule("a keep-last=3")))
    assert report.steps["tags"].count == 297
    assert await content.tags("a") == ["t297", "t298", "t299"]


async def test_immutable_tags_are_never_given_up(content: Content) -> None:
    for tag in ("v1", "v2", "x"):
        await content.push_image("a", tag, b"one")
    limits = replace(rule("* keep-last=0"), immutable=(Immutable.parse("a:v*"),))
    await content.collect(replace(AT_ONCE, limits=limits))
    assert await content.tags("a") == ["v1", "v2"]
    await content.assert_sound()


async def test_manifests_whose_tags_are_given_up_have_their_time_without(content: Content) -> None:
    digest = await content.push_image("a", "v1", b"one")
    await content.change(tables.tag, updated=1.0)
    await content.change(tables.repository_manifest, pushed=1.0)
    policy = replace(AT_ONCE, untagged_for=DAY, limits=rule("a keep-days=1"))
    await content.collect(policy)
    assert await content.tags("a") == []
    assert await content.manifests("a") == {digest}
    await content.change(tables.repository_manifest, untagged=time.time() - 2 * DAY)
    await content.collect(policy)
    assert await content.counts() == {}


async def test_the_first_rule_for_a_repository_counts(content: Content) -> None:
    for tag in ("v1", "v2"):
        await content.push_image("team/a", tag, b"one")
        await content.push_image("other", tag, b"one")
    limits = Limits(retention=(Retention.parse("team/* keep-last=9"), Retention.parse("* keep-last=1")))
    await content.collect(replace(NEVER, limits=limits))
    assert await content.tags("team/a") == ["v1", "v2"]
    assert await content.tags("other") == ["v2"]
