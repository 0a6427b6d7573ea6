"""Names, digests and sessions as somebody would write them who means harm, and what one process did to another's."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from storage.digest import Digest
from storage.errors import UploadUnknown
from tests.support.registry.pushes import ABSENT, INDEX, LAYER, MANIFEST, Pusher, descriptor, image_manifest
from tests.support.registry.serving import NUMPY, Site, serving
from tests.support.registry.wire import wire
from tests.support.server import Server

DATA = random.Random(7).randbytes(100_000)
DIGEST = Digest.of(DATA)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """A server over each of the databases, which differ in the text that they take."""
    url = None if request.param == "sqlite" else request.getfixturevalue("migrated_postgres")
    async with serving(tmp_path, database=url) as running:
        yield running


def stored_files(directory: Path) -> list[Path]:
    return [path for path in (directory / "blobs").rglob("*") if path.is_file()]


# names


NAMES_OF_THE_API = [
    "a/blobs/uploads",
    "x/tags/list",
    "manifests",
    "blobs",
    "uploads",
    "referrers",
    "a/manifests/latest",
    "a/manifests",
    "v2",
    "v2/a",
    "files",
    "tags/list/tags/list",
    "a/referrers/b",
    "a/blobs/uploads/blobs/uploads",
]


async def test_repositories_called_like_parts_of_the_api(push: Pusher) -> None:
    for repository in NAMES_OF_THE_API:
        body = await push.image(repository, DATA)
        digest = Digest.of(body)
        location = await push.open(repository)
        assert location.startswith(f"/v2/{repository}/blobs/uploads/")
        assert (await push.chunk(location, DATA[:10], 0)).status == 202
        finished = await push.finish(location, DIGEST, DATA[10:])
        assert finished.headers["Location"] == f"/v2/{repository}/blobs/{DIGEST}"
        assert await push.read(repository, DIGEST) == DATA
        for tag in ("latest", "list", "uploads", "manifests"):
            assert (await push.manifest(repository, tag, body)).status == 201
            assert (await push.get_manifest(repository, tag)).body == body
        assert (await push.get_manifest(repository, digest)).body == body
        assert await push.tags(repository) == ["latest", "list", "manifests", "uploads"]
        assert json.loads((await push.request("GET", f"/v2/{repository}/referrers/{digest}")).body)["manifests"] == []
        mount = await push.request("POST", f"/v2/{repository}-copy/blobs/uploads/?mount={DIGEST}&from={repository}")
        assert mount.status == 201
    # those that only have a blob are not in it
    assert await push.paged("/v2/_catalog?n=3", "repositories") == sorted(NAMES_OF_THE_API)
    for repository in NAMES_OF_THE_API:
        assert (await push.request("DELETE", f"/v2/{repository}/manifests/{digest}")).status == 202
        assert (await push.request("DELETE", f"/v2/{repository}/blobs/{DIGEST}")).status == 202
        assert (await push.get_manifest(repository, digest)).status == 404


BAD_NAMES = [
    "a%0a",
    "a%0d%0a",
    "a%00",
    "%00",
    "%2e%2e%2fa",
    "..%2fa",
    "../a",
    "a/../b",
    "a/./b",
    "a//b",
    "/a",
    "a/",
    "",
    ".",
    "..",
    "a%2fb",
    "a%2Fb",
    "%61",
    "A",
    "a/B",
    "-a",
    "a-",
    "a..b",
    "a___b",
    "a b",
    "a%20b",
    "a%5cb",
    "a\\b",
    "%C3%A9",
    "%ED%A0%80",
    "%ff",
    "a;b",
    "a@b",
    "a:b",
    "a+b",
    "a*",
    "_catalog/a",
    "a" * 256,
    "a/" * 127 + "aa",
]

ROUTES = [
    ("GET", "/v2/{}/manifests/latest"),
    ("HEAD", "/v2/{}/manifests/latest"),
    ("PUT", "/v2/{}/manifests/latest"),
    ("DELETE", "/v2/{}/manifests/latest"),
    ("GET", f"/v2/{{}}/manifests/{ABSENT}"),
    ("GET", f"/v2/{{}}/blobs/{ABSENT}"),
    ("HEAD", f"/v2/{{}}/blobs/{ABSENT}"),
    ("DELETE", f"/v2/{{}}/blobs/{ABSENT}"),
    ("POST", "/v2/{}/blobs/uploads/"),
    ("POST", "/v2/{}/blobs/uploads"),
    ("POST", f"/v2/{{}}/blobs/uploads/?digest={DIGEST}"),
    ("POST", f"/v2/{{}}/blobs/uploads/?mount={DIGEST}&from=a"),
    ("GET", "/v2/{}/blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c"),
    ("PATCH", "/v2/{}/blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c"),
    ("PUT", f"/v2/{{}}/blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c?digest={DIGEST}"),
    ("DELETE", "/v2/{}/blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c"),
    ("GET", "/v2/{}/tags/list"),
    ("GET", f"/v2/{{}}/referrers/{ABSENT}"),
]


async def test_bad_names_are_refused_on_every_route(site: Site) -> None:
    """As they are written: sent over a socket, as a client library would tidy them up."""
    async with wire(site.host_port) as connection:
        for method, route in ROUTES:
            for name in BAD_NAMES:
                path = route.format(name).replace(" ", "%20")
                await connection.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".encode())
                answer = await connection.answer(method)
                assert (method, path, answer.status) == (method, path, 400)
                assert method == "HEAD" or answer.code == "NAME_INVALID"
    assert json.loads((await Pusher(site).request("GET", "/v2/_catalog")).body) == {"repositories": []}


BAD_LAST = [("%00", 400), ("a%00b", 400), ("%0a", 200), ("%ED%A0%80", 200), ("%ff", 200), ("%C3%A9", 200)]
BAD_LAST += [("%F0%9F%98%80", 200), ("../x", 200), ("' OR 1=1 --", 200), ("%25", 200), ("a" * 255, 200)]
BAD_LAST += [("a" * 256, 400), ("", 200)]


async def test_any_last_is_a_place_in_the_list_or_refused(either: Site) -> None:
    push = Pusher(either)
    await push.manifest("a", "latest", await push.image("a", DATA))
    for last, status in BAD_LAST:
        for path in ("/v2/_catalog", "/v2/a/tags/list", f"/v2/{NUMPY}/tags/list"):
            answer = await push.request("GET", f"{path}?last={last.replace(' ', '%20')}")
            assert (path, last, answer.status) == (path, last, status)


async def test_text_that_a_database_may_not_take(either: Site) -> None:
    push = Pusher(either)
    await push.image("a", DATA)
    for odd in ("%00", "a%00b", "%0a", "%ED%A0%80", "%ff", "%F0%9F%98%80", "x" * 4000):
        for method, path, statuses in (
            ("GET", f"/v2/a/blobs/uploads/{odd}", {404}),
            ("DELETE", f"/v2/a/blobs/uploads/{odd}", {404}),
            ("GET", f"/v2/a/manifests/{odd}", {404}),
            ("DELETE", f"/v2/a/manifests/{odd}", {404}),
            ("PUT", f"/v2/a/manifests/{odd}", {400}),
            ("PUT", f"/v2/a/manifests/{ABSENT}?tag={odd}", {400}),
            ("GET", f"/v2/a/blobs/{odd}", {404}),
            ("GET", f"/v2/a/referrers/{ABSENT}?artifactType={odd}", {200, 400}),
            ("POST", f"/v2/a/blobs/uploads/?digest={odd}", {400}),
            ("POST", f"/v2/a/blobs/uploads/?mount={odd}", {202}),
            ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}&from={odd}", {202}),
        ):
            answer = await push.request(method, path)
            assert answer.status in statuses, (method, path, answer)
    odd_text = {"a\0b": "c\0d", "emoji": "\U0001f600", "\x7f": "\x01", "long" * 1000: ""}
    subject = {"mediaType": MANIFEST, "digest": ABSENT, "size": 2}
    await push.whole("a", b"{}", Digest.of(b"{}"))
    body = image_manifest(b"{}", [DATA], annotations=odd_text, subject=subject)
    assert (await push.manifest("a", "odd", body)).status == 201
    assert (await push.get_manifest("a", "odd")).body == body
    [entry] = json.loads((await push.request("GET", f"/v2/a/referrers/{ABSENT}")).body)["manifests"]
    assert entry["annotations"] == odd_text


# digests

BAD_DIGESTS = [
    "sha256:" + DIGEST.hex.upper(),
    "SHA256:" + DIGEST.hex,
    "sha256:" + DIGEST.hex[:-1],
    "sha256:" + DIGEST.hex + "0",
    "sha256:" + DIGEST.hex + "%0a",
    "sha256:" + DIGEST.hex + "%00",
    "sha256:" + DIGEST.hex[:12],
    "sha256:",
    "sha256:" + "g" * 64,
    "sha256:..%2f..%2f" + "0" * 50,
    "sha512:" + DIGEST.hex,
    "sha256:" + "0" * 128,
    "sha384:" + "0" * 96,
    "md5:" + "0" * 32,
    "sha256+b64:" + "0" * 64,
    ":" + DIGEST.hex,
    "sha256:" + "%D9%A1" * 64,
    "%20sha256:" + DIGEST.hex,
]

PLACES = [
    ("GET", "/v2/a/manifests/{}", 404),
    ("HEAD", "/v2/a/manifests/{}", 404),
    ("PUT", "/v2/a/manifests/{}", 400),
    ("DELETE", "/v2/a/manifests/{}", 404),
    ("GET", "/v2/a/blobs/{}", 404),
    ("HEAD", "/v2/a/blobs/{}", 404),
    ("DELETE", "/v2/a/blobs/{}", 404),
    ("GET", "/v2/a/referrers/{}", 400),
    ("GET", f"/v2/a/referrers/{DIGEST}?last={{}}", 400),
    ("POST", "/v2/a/blobs/uploads/?digest={}", 400),
]


async def test_bad_digests_are_refused_in_every_place(push: Pusher) -> None:
    """The blob that each of them nearly names is there."""
    await push.manifest("a", "latest", await push.image("a", DATA))
    for method, place, status in PLACES:
        for text in BAD_DIGESTS:
            path = place.format(text.replace("+", "%2b") if "?" in place else text)
            answer = await push.request(method, path, data=b"x" if method in ("PUT", "POST") else None)
            assert (method, path, answer.status) == (method, path, status)
            code = (
                "PAGINATION_NUMBER_INVALID" if path.endswith("last=sha256:" + DIGEST.hex + "%00") else "DIGEST_INVALID"
            )
            assert method == "HEAD" or (path, answer.code) == (path, code)


async def test_bad_digests_mount_nothing(push: Pusher) -> None:
    await push.manifest("a", "latest", await push.image("a", DATA))
    for query in ("mount={}&from=a", "mount={}"):
        for text in BAD_DIGESTS:
            opened = await push.request("POST", f"/v2/b/blobs/uploads/?{query.format(text.replace('+', '%2b'))}")
            assert (text, opened.status) == (text, 202)
    assert (await push.request("GET", f"/v2/b/blobs/{DIGEST}")).status == 404


async def test_bad_digests_end_no_session(push: Pusher) -> None:
    location = await push.open("a")
    await push.chunk(location, DATA, 0)
    for text in BAD_DIGESTS:
        answer = await push.request("PUT", f"{location}?digest={text.replace('+', '%2b')}")
        assert (text, answer.status, answer.code) == (text, 400, "DIGEST_INVALID")
    assert (await push.request("PUT", location)).code == "DIGEST_INVALID"
    assert (await push.finish(location, DIGEST)).status == 201


async def test_bad_digests_are_refused_within_manifests(push: Pusher) -> None:
    await push.image("a", DATA)
    good = descriptor(LAYER, DATA)
    for text in (*BAD_DIGESTS[:9], f"{DIGEST}\n", f"{DIGEST}\0", 7, None, [DIGEST]):
        bad = {**good, "digest": text}
        for fields, media_type in (
            ({"config": bad, "layers": []}, MANIFEST),
            ({"config": good, "layers": [bad]}, MANIFEST),
            ({"config": good, "layers": [good], "subject": bad}, MANIFEST),
            ({"manifests": [bad]}, INDEX),
            ({"manifests": [], "subject": bad}, INDEX),
        ):
            body = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
            answer = await push.manifest("a", "latest", body, media_type)
            assert (text, answer.status, answer.code) == (text, 400, "MANIFEST_INVALID")


# sessions


async def test_many_open_sessions_cost_nothing(push: Pusher, tmp_path: Path) -> None:
    locations = await asyncio.gather(*(push.open(f"r{number % 7}") for number in range(500)))
    assert len({*locations}) == 500
    assert stored_files(tmp_path) == []
    assert (await push.whole("a", DATA, DIGEST)).status == 201
    assert (await push.finish(locations[250], DIGEST, DATA)).status == 201
    assert {(await push.state(each)).status for each in (locations[0], locations[-1])} == {204}


async def test_session_belongs_to_who_opened_it(site: Site) -> None:
    uploads = site.workshop.store.uploads
    upload = await uploads.open("a", "alice")
    assert await uploads.find("a", upload.id, "alice") == upload
    for repository, principal in (("a", "bob"), ("a", "anonymous"), ("b", "alice"), ("a", "")):
        with pytest.raises(UploadUnknown):
            await uploads.find(repository, upload.id, principal)
    for method in ("GET", "PATCH", "DELETE"):
        answer = await Pusher(site).request(method, f"/v2/a/blobs/uploads/{upload.id}", data=b"x")
        assert answer.code == "BLOB_UPLOAD_UNKNOWN"
    for other in (upload.id.upper(), upload.id.replace("-", ""), f"{upload.id}%0a", f"%7b{upload.id}%7d"):
        assert (await Pusher(site).state(f"/v2/a/blobs/uploads/{other}")).code == "BLOB_UPLOAD_UNKNOWN"


async def test_everything_at_once_with_one_session(push: Pusher) -> None:
    for _ in range(3):
        location = await push.open("a")
        half = len(DATA) // 2
        await push.chunk(location, DATA[:half], 0)
        answers = await asyncio.gather(
            *(push.chunk(location, DATA[half:], half) for _ in range(3)),
            *(push.finish(location, DIGEST, DATA[half:]) for _ in range(3)),
            *(push.finish(location, DIGEST) for _ in range(3)),
            *(push.state(location) for _ in range(3)),
            push.request("DELETE", location),
        )
        assert {answer.status for answer in answers} <= {201, 202, 204, 400, 404, 416}
        assert (await push.state(location)).status in (204, 404)
        found = await push.site_get("a", DIGEST)
        assert found.status in (200, 404)
        assert found.status == 404 or found.body == DATA
        await push.request("DELETE", f"/v2/a/blobs/{DIGEST}")


# several processes


@dataclass(frozen=True)
class Process:
    """One of the processes of a server: what has one connection to it."""

    url: str
    client: aiohttp.ClientSession

    def request(self, method: str, path: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.client.request(method, self.url + path, **options)

    async def name(self) -> str:
        """Request ids begin with what names the process that made them."""
        async with self.request("GET", "/healthz") as answer:
            return answer.headers["X-Request-ID"].partition("-")[0]


@asynccontextmanager
async def two_processes(server: Server) -> AsyncIterator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        found: dict[str, Process] = {}
        while len(found) < 2:
            process = Process(server.url, await stack.enter_async_context(aiohttp.ClientSession()))
            found.setdefault(await process.name(), process)
        yield tuple(found.values())  # type: ignore[misc] # there are two
        assert [await process.name() for process in found.values()] == [*found]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two processes."""
    directory = tmp_path_factory.mktemp("shared")
    flags = ("--base", "scratch", "--workers", "1", "--processes", "2", "--channels", "file:///nowhere")
    server = Server(flags, directory / "data", directory / "log")
    server.start()
    yield server
    server.kill()


async def test_cve_2026_35172_what_another_process_deleted_is_gone(shared: Server) -> None:
    """Each process has read it before, and has it in memory."""
    async with two_processes(shared) as processes:
        first, second = map(Pusher, processes)
        for number in range(5):
            body = await first.image("a", DATA, bytes([number]))
            digest = Digest.of(body)
            for tag in ("latest", "other"):
                assert (await first.manifest("a", tag, body)).status == 201
            blob = f"/v2/a/blobs/{DIGEST}"
            for path in (*(f"/v2/a/manifests/{each}" for each in ("latest", "other", digest)), blob):
                for client in (first, second, first, second):
                    assert (await client.request("GET", path)).status == 200
            for client, other in ((first, second), (second, first)):
                assert (await client.request("DELETE", "/v2/a/manifests/other")).status == 202
                assert (await other.get_manifest("a", "other")).status == 404
                assert (await client.manifest("a", "other", body)).status == 201
                assert (await other.get_manifest("a", "other")).status == 200
            assert (await second.request("DELETE", f"/v2/a/manifests/{digest}")).status == 202
            assert (await first.get_manifest("a", "latest")).status == 404
            assert (await first.get_manifest("a", digest)).status == 404
            assert (await first.request("DELETE", blob)).status == 202
            assert (await second.request("HEAD", blob)).status == 404
            assert (await second.request("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a")).status == 202
            for client in (first, second):
                for repository in ("a", "b"):
                    assert (await client.request("GET", f"/v2/{repository}/blobs/{DIGEST}")).status == 404


async def test_session_goes_on_in_another_process(shared: Server) -> None:
    async with two_processes(shared) as processes:
        pushers = [*map(Pusher, processes)]
        location = await pushers[0].open("a")
        for number in range(10):
            piece = DATA[number * 1000 : (number + 1) * 1000]
            assert (await pushers[number % 2].chunk(location, piece, number * 1000)).status == 202
        assert (await pushers[1].finish(location, DIGEST, DATA[10_000:])).status == 201
        assert (await pushers[0].state(location)).status == 404
        assert await pushers[0].read("a", DIGEST) == DATA
