"""Pushing: uploads, mounts, manifests and deletions, as clients do them and as they should not."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auth.permission import Permission
from auth.principal import Principal
from registry.http.settings import HttpSettings
from storage.digest import Digest
from storage.quotas.limits import Immutable, Limits, Quota
from tests.support.registry.pushes import INDEX, MANIFEST, Pusher, image_manifest
from tests.support.registry.serving import NUMPY, ROOT, Site, serving

ABSENT = Digest("sha256:" + "0" * 64)
SESSION = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
DATA = random.Random(1).randbytes(300_000)
DIGEST = Digest.of(DATA)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, HttpSettings(stall_seconds=2)) as running:
        yield running


@pytest.fixture
def push(site: Site) -> Pusher:
    return Pusher(site)


def sha512(data: bytes) -> Digest:
    return Digest(f"sha512:{hashlib.sha512(data).hexdigest()}")


REFUSED = [
    ("POST", "/v2/a/blobs/uploads/?digest=sha256:abc", b"x", {}, 400, "DIGEST_INVALID"),
    ("POST", f"/v2/a/blobs/uploads/?digest={ABSENT}", b"x", {}, 400, "DIGEST_INVALID"),
    ("POST", "/v2/A/blobs/uploads/", b"", {}, 400, "NAME_INVALID"),
    ("PATCH", f"/v2/a/blobs/uploads/{SESSION}", b"x", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("PATCH", "/v2/a/blobs/uploads/..%2f..%2fcondery.sqlite", b"x", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("PUT", f"/v2/a/blobs/uploads/{SESSION}?digest={ABSENT}", b"", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("GET", f"/v2/a/blobs/uploads/{SESSION}", b"", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("DELETE", f"/v2/a/blobs/uploads/{SESSION}", b"", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("DELETE", f"/v2/a/blobs/{ABSENT}", b"", {}, 404, "BLOB_UNKNOWN"),
    ("DELETE", "/v2/a/blobs/sha256:abc", b"", {}, 404, "DIGEST_INVALID"),
    ("DELETE", f"/v2/a/manifests/{ABSENT}", b"", {}, 404, "MANIFEST_UNKNOWN"),
    ("DELETE", "/v2/a/manifests/latest", b"", {}, 404, "MANIFEST_UNKNOWN"),
    ("PUT", "/v2/a/manifests/latest", b"", {"Content-Type": MANIFEST}, 400, "MANIFEST_INVALID"),
    ("PUT", "/v2/a/manifests/latest", b"{}", {"Content-Type": MANIFEST}, 400, "MANIFEST_INVALID"),
    ("PUT", "/v2/a/manifests/-bad", b"{}", {"Content-Type": MANIFEST}, 400, "TAG_INVALID"),
    ("PUT", "/v2/a/manifests/sha256:bad", b"{}", {"Content-Type": MANIFEST}, 400, "DIGEST_INVALID"),
    ("PUT", "/v2/a/manifests/latest%0a", b"{}", {"Content-Type": MANIFEST}, 400, "TAG_INVALID"),
    (
        "PUT",
        "/v2/a/manifests/latest",
        io.BytesIO(bytes((4 << 20) + 1)),
        {"Content-Type": MANIFEST},
        413,
        "SIZE_INVALID",
    ),
    ("GET", "/v2/a/tags/list", b"", {}, 404, "NAME_UNKNOWN"),
    ("GET", "/v2/a/manifests/latest", b"", {}, 404, "NAME_UNKNOWN"),
    ("GET", "/v2/a/referrers/sha256:abc", b"", {}, 400, "DIGEST_INVALID"),
    ("PATCH", "/v2/a/blobs/uploads/", b"", {}, 405, "UNSUPPORTED"),
    ("POST", f"/v2/a/blobs/{ABSENT}", b"", {}, 405, "UNSUPPORTED"),
    ("POST", f"/v2/{ROOT}/blobs/uploads/", b"", {}, 403, "DENIED"),
    *(
        ("GET", f"/v2/a/tags/list?n={n}", b"", {}, 400, "PAGINATION_NUMBER_INVALID")
        for n in ("-1", "1_0", "10000000000", "%D9%A3", "", "1e3", "+1", "0x1")
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "code"), REFUSED)
async def test_refused_requests(
    site: Site, method: str, path: str, body: bytes | io.BytesIO, headers: dict[str, str], status: int, code: str
) -> None:
    async with site.request(method, path, data=body, headers=headers) as answer:
        document = json.loads(await answer.read())
    assert (answer.status, document["errors"][0]["code"]) == (status, code)
    assert document["errors"][0]["message"]


# blobs


async def test_blob_in_one_request(push: Pusher) -> None:
    for digest in (DIGEST, sha512(DATA)):
        answer = await push.whole("team/a", DATA, digest)
        assert answer.status == 201
        assert answer.headers["Location"] == f"/v2/team/a/blobs/{digest}"
        assert answer.headers["Docker-Content-Digest"] == digest
        assert await push.read("team/a", digest) == DATA
        assert (await push.site_get("team/a", digest, "HEAD")).headers["Content-Length"] == str(len(DATA))


async def test_blob_by_chunks_that_come_out_of_order(push: Pusher) -> None:
    location = await push.open("a")
    assert (await push.state(location)).headers["Range"] == "0-0"
    refused = await push.chunk(location, DATA[1000:2000], 1000)
    assert (refused.status, refused.code, refused.headers["Range"]) == (416, "BLOB_UPLOAD_INVALID", "0-0")
    assert (await push.chunk(location, DATA[:1000], 0)).headers["Range"] == "0-999"
    assert (await push.chunk(location, DATA[:1000], 0)).status == 416
    refused = await push.finish(location, DIGEST, DATA[2000:], 2000)
    assert (refused.status, refused.headers["Range"]) == (416, "0-999")
    assert (await push.state(location)).headers["Range"] == "0-999"
    assert (await push.chunk(location, DATA[1000:2000], 1000)).status == 202
    assert (await push.finish(location, DIGEST, DATA[2000:], 2000)).status == 201
    assert await push.read("a", DIGEST) == DATA
    assert (await push.state(location)).status == 404


async def test_length_that_is_not_what_the_range_says_changes_nothing(push: Pusher) -> None:
    location = await push.open("a")
    for header in ("0-9", "0-1000", "5-4"):
        answer = await push.request("PATCH", location, data=DATA[:100], headers={"Content-Range": header})
        assert (header, answer.status) == (header, 416)
    for header in ("bytes", "a-b", "0-", "-5", "0-9999999999999999999999"):
        answer = await push.request("PATCH", location, data=DATA[:100], headers={"Content-Range": header})
        assert (header, answer.status) == (header, 416)
    assert (await push.state(location)).headers["Range"] == "0-0"


@pytest.mark.parametrize("digest", [DIGEST, sha512(DATA)], ids=["sha256", "sha512"])
async def test_streamed_blob(push: Pusher, digest: Digest) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 70_000):
            yield DATA[start : start + 70_000]

    location = await push.open("a")
    answer = await push.request("PATCH", location, data=stream())
    assert (answer.status, answer.headers["Range"]) == (202, f"0-{len(DATA) - 1}")
    assert (await push.finish(location, digest)).status == 201
    assert await push.read("a", digest) == DATA


@pytest.mark.parametrize("parts", [0, 1])
async def test_empty_blob(push: Pusher, parts: int) -> None:
    location = await push.open("a")
    for _ in range(parts):
        assert (await push.request("PATCH", location, data=b"")).status == 202
    assert (await push.finish(location, Digest.of(b""))).status == 201
    assert await push.read("a", Digest.of(b"")) == b""


async def test_wrong_digest_leaves_the_session_as_it_was(push: Pusher) -> None:
    location = await push.open("a")
    await push.chunk(location, DATA[:1000], 0)
    for wrong in (ABSENT, sha512(b"")):
        answer = await push.finish(location, wrong, DATA[1000:])
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await push.state(location)).headers["Range"] == "0-999"
    assert (await push.finish(location, DIGEST, DATA[1000:])).status == 201


async def test_cancelled_session_leaves_nothing(push: Pusher, site: Site, tmp_path: Path) -> None:
    location = await push.open("a")
    await push.chunk(location, DATA, 0)
    assert (await push.request("DELETE", location)).status == 204
    assert (await push.state(location)).status == 404
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


async def test_broken_request_is_continued_where_it_broke(push: Pusher, site: Site) -> None:
    location = await push.open("a")
    reader, writer = await asyncio.open_connection(*site.host_port)
    head = f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(DATA)}\r\n\r\n"
    writer.write(head.encode() + DATA[:200_000])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.transport.abort()
    while (size := int((await push.state(location)).headers["Range"].partition("-")[2]) + 1) < 2:
        await asyncio.sleep(0.02)
    assert size == 200_000
    assert (await push.chunk(location, DATA[size:], size)).status == 202
    assert (await push.finish(location, DIGEST)).status == 201
    del reader


async def test_client_that_stops_sending_is_let_go(push: Pusher, site: Site) -> None:
    location = await push.open("a")
    reader, writer = await asyncio.open_connection(*site.host_port)
    writer.write(f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode() + DATA[:10])
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await push.state(location)).headers["Range"] == "0-9"


async def test_of_two_that_continue_a_session_at_once_one_counts(push: Pusher) -> None:
    location = await push.open("a")
    answers = await asyncio.gather(*(push.chunk(location, bytes([number]) * 1000, 0) for number in range(6)))
    assert sorted(answer.status for answer in answers) == [202] + [416] * 5
    assert (await push.state(location)).headers["Range"] == "0-999"


async def test_session_belongs_to_its_repository(push: Pusher) -> None:
    location = await push.open("a")
    elsewhere = location.replace("/v2/a/", "/v2/b/")
    for method in ("GET", "PATCH", "DELETE"):
        assert (await push.request(method, elsewhere, data=b"x")).code == "BLOB_UPLOAD_UNKNOWN"
    assert (await push.finish(elsewhere, Digest.of(b""))).code == "BLOB_UPLOAD_UNKNOWN"
    assert (await push.state(location)).status == 204


async def test_blob_of_another_repository_is_not_there(push: Pusher) -> None:
    await push.whole("a", DATA, DIGEST)
    assert (await push.site_get("b", DIGEST)).code == "BLOB_UNKNOWN"
    assert (await push.site_get(NUMPY, DIGEST)).code == "BLOB_UNKNOWN"


async def test_the_same_blob_is_stored_once(push: Pusher, tmp_path: Path) -> None:
    for repository in ("a", "b", "a"):
        assert (await push.whole(repository, DATA, DIGEST)).status == 201
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


async def test_mounts(push: Pusher) -> None:
    await push.whole("a", DATA, DIGEST)
    for target, query in (("b", f"mount={DIGEST}&from=a"), ("c", f"mount={DIGEST}")):
        answer = await push.request("POST", f"/v2/{target}/blobs/uploads/?{query}")
        assert (answer.status, answer.headers["Location"]) == (201, f"/v2/{target}/blobs/{DIGEST}")
        assert await push.read(target, DIGEST) == DATA
    for query in (f"mount={DIGEST}&from=none", f"mount={ABSENT}"):
        answer = await push.request("POST", f"/v2/d/blobs/uploads/?{query}")
        assert answer.status == 202
        assert (await push.finish(answer.headers["Location"], DIGEST, DATA)).status == 201
        assert (await push.request("DELETE", f"/v2/d/blobs/{DIGEST}")).status == 202


class OnlyOthers:
    """An Access that hides the repository `secret`."""

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        return entity != "secret"


@pytest.mark.parametrize(
    "query",
    [
        "mount=sha256:abc&from=a",
        "mount=",
        "mount=x:y",
        f"mount={DIGEST}&from=B/../c",
        f"mount={DIGEST}&from=",
        f"mount={DIGEST}&from=%00",
        f"mount={DIGEST[:-1]}",
    ],
)
async def test_a_mount_of_what_is_no_name_is_an_upload(push: Pusher, query: str) -> None:
    opened = await push.request("POST", f"/v2/b/blobs/uploads/?{query}")
    assert opened.status == 202
    finished = await push.request("PUT", f"{opened.headers['Location']}?digest={DIGEST}", data=DATA)
    assert finished.status == 201


async def test_mount_needs_the_right_to_read(tmp_path: Path) -> None:
    async with serving(tmp_path, access=OnlyOthers()) as site:
        push = Pusher(site)
        await site.workshop.put_blob(DATA, "secret")
        for query in (f"mount={DIGEST}&from=secret", f"mount={DIGEST}"):
            assert (await push.request("POST", f"/v2/b/blobs/uploads/?{query}")).status == 202
        assert (await push.site_get("b", DIGEST)).status == 404
        for method, path in (("GET", f"/v2/secret/blobs/{DIGEST}"), ("POST", "/v2/secret/blobs/uploads/")):
            assert (await push.request(method, path)).code == "DENIED"
        assert json.loads((await push.request("GET", "/v2/_catalog")).body) == {"repositories": []}


async def test_deleted_blob_is_gone_at_once_and_may_come_back(push: Pusher) -> None:
    for _ in range(3):
        assert (await push.whole("a", DATA, DIGEST)).status == 201
        assert await push.read("a", DIGEST) == DATA
        assert (await push.request("DELETE", f"/v2/a/blobs/{DIGEST}")).status == 202
        assert (await push.site_get("a", DIGEST)).status == 404
        assert (await push.site_get("a", DIGEST, "HEAD")).status == 404
        # the bytes may still be on the disk: nobody has a right to them
        assert (await push.request("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}")).status == 202


# manifests


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


# limits


async def test_immutable_tags(tmp_path: Path) -> None:
    limits = Limits(immutable=(Immutable.parse("prod/*:v*"),))
    async with serving(tmp_path, limits=limits) as site:
        push = Pusher(site)
        first, second = await push.image("prod/a", b"1"), await push.image("prod/a", b"2")
        digest = Digest.of(first)
        for _ in range(2):
            assert (await push.manifest("prod/a", "v1", first)).status == 201
        for answer in (
            await push.manifest("prod/a", "v1", second),
            await push.manifest("prod/a", f"{Digest.of(second)}?tag=x&tag=v1", second),
            await push.request("DELETE", "/v2/prod/a/manifests/v1"),
            await push.request("DELETE", f"/v2/prod/a/manifests/{digest}"),
        ):
            assert (answer.status, answer.code) == (403, "DENIED")
        assert (await push.get_manifest("prod/a", "v1")).body == first
        assert await push.tags("prod/a") == ["v1"]
        assert (await push.manifest("prod/a", "latest", second)).status == 201
        assert (await push.request("DELETE", "/v2/prod/a/manifests/latest")).status == 202


async def test_quotas(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=Limits(quotas=(Quota.parse("team/* bytes=300KB tags=2"),))) as site:
        push = Pusher(site)
        body = await push.image("team/a", DATA[:290_000])
        for tag in ("one", "two", "one"):
            assert (await push.manifest("team/a", tag, body)).status == 201
        answer = await push.manifest("team/a", "three", body)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert "2 tags" in answer.message
        for answer in (
            await push.whole("team/b", DATA, DIGEST),
            await push.finish(await push.open("team/b"), DIGEST, DATA),
        ):
            assert (answer.status, answer.code) == (403, "DENIED")
        # what the team has already costs nothing again, and others are not counted
        assert (await push.whole("team/b", DATA[:290_000], Digest.of(DATA[:290_000]))).status == 201
        assert (await push.whole("other", DATA, DIGEST)).status == 201
        assert (await push.request("POST", f"/v2/team/b/blobs/uploads/?mount={DIGEST}&from=other")).status == 403


async def test_read_only(tmp_path: Path) -> None:
    async with serving(tmp_path, read_only=True) as site:
        push = Pusher(site)
        await site.workshop.put_blob(DATA, "a")
        assert await push.read("a", DIGEST) == DATA
        for method, path in (
            ("POST", "/v2/a/blobs/uploads/"),
            ("PUT", "/v2/a/manifests/latest"),
            ("DELETE", f"/v2/a/blobs/{DIGEST}"),
        ):
            assert (await push.request(method, path)).code == "DENIED"


async def test_push_is_refused_before_its_body_is_sent(site: Site) -> None:
    """A client that asks first (RFC 9110, 10.1.1) and is refused keeps its gigabytes."""
    reader, writer = await asyncio.open_connection(*site.host_port)
    head = f"PUT /v2/{NUMPY}/manifests/latest HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nConnection: close\r\n"
    writer.write(f"{head}\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
    writer.close()


async def test_concurrent_pushes_of_one_image(push: Pusher, site: Site) -> None:
    async def one(number: int) -> None:
        body = await push.image(f"r{number % 3}", DATA)
        assert (await push.manifest(f"r{number % 3}", "latest", body)).status == 201

    await asyncio.gather(*(one(number) for number in range(24)))
    for number in range(3):
        assert await push.read(f"r{number}", DIGEST) == DATA
