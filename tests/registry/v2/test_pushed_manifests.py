"""Pushing manifests: tags, indexes and referrers, their lists and deletions."""

from __future__ import annotations

import json

from storage.digest import Digest
from tests.support.registry.pushes import ABSENT, DATA, DIGEST, INDEX, MANIFEST, Pusher, image_manifest, sha512


async def test_image_by_tag_and_digest(push: Pusher) -> None:
    body = await push.image("team/a", DATA)
    digest = Digest.of(body)
    answer = await push.manifest("team/a", "v1", body)
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v2/team/a/manifests/{digest}"
    assert answer.headers["Docker-Content-Digest"] == digest
    for reference in ("v1", digest, f"{digest}".replace(":", "%3A")):
        found = await push.get_manifest("team/a", reference)
        assert (found.status, found.body) == (200, body)
        assert found.headers["Content-Type"] == MANIFEST
        assert found.headers["Docker-Content-Digest"] == digest
    assert (await push.get_manifest("team/b", digest)).code == "MANIFEST_UNKNOWN"
    assert (await push.get_manifest("team/a", "v2")).code == "MANIFEST_UNKNOWN"


async def test_manifest_by_digest_with_tags(push: Pusher) -> None:
    body = await push.image("a", DATA)
    for digest in (Digest.of(body), sha512(body)):
        tags = [f"{digest.algorithm}-{number}" for number in range(3)]
        answer = await push.manifest("a", f"{digest}?tag={tags[0]}&tag={tags[1]},{tags[2]}", body)
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
        assert answer.headers.getall("OCI-Tag") == tags
        for tag in tags:
            assert (await push.get_manifest("a", tag)).headers["Docker-Content-Digest"] == digest
    assert (await push.manifest("a", f"{Digest.of(body)}?tag=-x", body)).code == "TAG_INVALID"
    query = "&".join(f"tag=t{number}" for number in range(101))
    assert (await push.manifest("a", f"{Digest.of(body)}?{query}", body)).code == "TAG_INVALID"
    assert (await push.manifest("a", ABSENT, body)).code == "DIGEST_INVALID"


async def test_manifest_needs_its_blobs_in_its_repository(push: Pusher) -> None:
    body = await push.image("a", DATA)
    answer = await push.manifest("b", "v1", body)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert (await push.get_manifest("b", "v1")).status == 404
    wrong = body.replace(b'"size": 300000', b'"size": 300001')
    assert wrong != body
    assert (await push.manifest("a", "v1", wrong)).code == "MANIFEST_INVALID"


async def test_moved_tag_is_seen_at_once(push: Pusher) -> None:
    first, second = await push.image("a", DATA), await push.image("a", DATA[:10])
    for body in (first, second, first):
        assert (await push.manifest("a", "latest", body)).status == 201
        assert (await push.get_manifest("a", "latest")).body == body


async def test_blob_of_a_manifest_cannot_be_deleted(push: Pusher) -> None:
    body = await push.image("a", DATA)
    await push.manifest("a", "v1", body)
    answer = await push.request("DELETE", f"/v2/a/blobs/{DIGEST}")
    assert (answer.status, answer.code) == (409, "DENIED")
    assert await push.read("a", DIGEST) == DATA
    await push.request("DELETE", f"/v2/a/manifests/{Digest.of(body)}")
    assert (await push.request("DELETE", f"/v2/a/blobs/{DIGEST}")).status == 202


async def test_deleting_a_tag_leaves_the_rest_and_a_digest_takes_its_tags(push: Pusher) -> None:
    body = await push.image("a", DATA)
    digest = Digest.of(body)
    for tag in ("one", "two", "three"):
        await push.manifest("a", tag, body)
    assert (await push.get_manifest("a", "one")).status == 200
    assert (await push.request("DELETE", "/v2/a/manifests/one")).status == 202
    assert (await push.get_manifest("a", "one")).status == 404
    assert await push.tags("a") == ["three", "two"]
    assert (await push.get_manifest("a", digest)).status == 200
    assert (await push.request("DELETE", f"/v2/a/manifests/{digest}")).status == 202
    for reference in ("two", "three", digest):
        assert (await push.get_manifest("a", reference)).status == 404
    assert await push.tags("a") == []


async def test_indexes_and_referrers(push: Pusher) -> None:
    image = await push.image("a", DATA)
    await push.manifest("a", Digest.of(image), image)
    subject = {"mediaType": MANIFEST, "digest": Digest.of(image), "size": len(image)}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [subject]}).encode()
    assert (await push.manifest("a", "multi", index, INDEX)).status == 201
    assert json.loads((await push.request("GET", f"/v2/a/referrers/{Digest.of(image)}")).body)["manifests"] == []
    made = []
    for kind in ("application/x.one", "application/x.two+json"):
        body = image_manifest(b"{}", [], subject=subject, artifactType=kind, annotations={"k": kind})
        await push.whole("a", b"{}", Digest.of(b"{}"))
        answer = await push.manifest("a", Digest.of(body), body)
        assert (answer.status, answer.headers["OCI-Subject"]) == (201, Digest.of(image))
        made.append(
            {
                "mediaType": MANIFEST,
                "digest": Digest.of(body),
                "size": len(body),
                "annotations": {"k": kind},
                "artifactType": kind,
            }
        )
    answer = await push.request("GET", f"/v2/a/referrers/{Digest.of(image)}")
    assert answer.headers["Content-Type"] == INDEX
    assert sorted(json.loads(answer.body)["manifests"], key=str) == sorted(made, key=str)
    answer = await push.request("GET", f"/v2/a/referrers/{Digest.of(image)}?artifactType=application/x.two%2Bjson")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert json.loads(answer.body)["manifests"] == made[1:]
    assert json.loads((await push.request("GET", f"/v2/none/referrers/{ABSENT}")).body)["manifests"] == []


async def test_referrers_are_paged(push: Pusher) -> None:
    await push.whole("a", b"{}", Digest.of(b"{}"))
    subject = {"mediaType": MANIFEST, "digest": ABSENT, "size": 10}
    for number in range(5):
        body = image_manifest(b"{}", [], subject=subject, annotations={"n": str(number)})
        assert (await push.manifest("a", Digest.of(body), body)).status == 201
    seen: list[str] = []
    path: str | None = f"/v2/a/referrers/{ABSENT}?n=2"
    while path is not None:
        answer = await push.request("GET", path)
        seen += [each["digest"] for each in json.loads(answer.body)["manifests"]]
        link = answer.headers.get("Link")
        path = link[1 : link.index(">")] if link else None
    assert len(seen) == len(set(seen)) == 5


async def test_tags_and_repositories_are_paged_in_byte_order(push: Pusher) -> None:
    body = await push.image("a", b"x")
    tags = sorted(["v1", "v1-0", "v1.0", "v10", "V1", "_x", "0", "zz", "v1_0"])
    for tag in tags:
        await push.manifest("a", tag, body)
    assert await push.tags("a") == tags
    for size in (1, 2, 4, 9, 100):
        assert await push.paged(f"/v2/a/tags/list?n={size}", "tags") == tags
    assert await push.tags("a", "?n=0") == []
    assert await push.tags("a", "?last=v1") == tags[tags.index("v1") + 1 :]
    names = ["a", "a-b", "a/b", "a.b", "ab", "b__c/d"]
    for name in names:
        assert (await push.manifest(name, "v1", await push.image(name, b"x"))).status == 201
    assert await push.paged("/v2/_catalog?n=2", "repositories") == sorted(names)
