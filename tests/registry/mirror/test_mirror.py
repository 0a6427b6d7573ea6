"""Pulling through: manifests, tags and lists of other registries, fresh, stale, and refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from auth.permission import Permission
from builder.remote.repository import Login
from registry.http.settings import HttpSettings
from registry.kinds.kind import KINDS
from registry.parts import PARTS
from storage.digest import Digest
from storage.oci import DOCKER_MANIFEST, OCI_INDEX
from tests.support.registry.access import GrantedAccess
from tests.support.registry.mirrored import APP, FIRST, SECOND, get, name_of, refused
from tests.support.registry.serving import Site, serving
from tests.support.registry.upstreams import (
    QUICK,
    Content,
    ScriptedRegistry,
    failure,
    image,
    index,
    mirroring,
    push,
)
from tests.support.servers import distribution
from tests.support.servers.reference_registry import PASSWORD, USER, password_auth, reference_registry, token_auth


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry, at host:port."""
    with reference_registry(tmp_path / "upstream") as address:
        yield address


async def warnings(site: Site, path: str) -> list[str]:
    async with site.request("GET", f"/v2/{path}") as response:
        assert response.status == 200, await response.text()
        return response.headers.getall("Warning", [])


async def assert_pulled(site: Site, name: str, reference: str, expected: Content) -> None:
    """As clients pull: HEAD of the tag, GET of its digest, and of everything in it."""
    async with site.request("HEAD", f"/v2/{name}/manifests/{reference}") as head:
        assert head.status == 200
        assert head.headers["Docker-Content-Digest"] == expected.digest
        assert head.headers["Content-Type"] == expected.media_type
    assert await get(site, f"{name}/manifests/{reference}") == expected.body
    assert await get(site, f"{name}/manifests/{expected.digest}") == expected.body
    for digest, data in expected.blobs.items():
        assert await get(site, f"{name}/blobs/{digest}") == data
        assert await get(site, f"{name}/blobs/{digest}") == data


async def test_a_copy_needs_one_grant_by_whichever_name_it_is_asked_for(tmp_path: Path) -> None:
    async with mirroring(tmp_path, "docker.io") as site:
        for name in ("debian", "library/debian"):
            for host in ("docker.io", "index.docker.io"):
                repository = f"mirror/{host}/{name}"
                need = site.app[KINDS].of(repository).needs(Permission.ENVIRONMENT_READ, repository)
                assert need == (Permission.ENVIRONMENT_READ, "mirror/docker.io/library/debian")


async def test_who_may_read_one_registry_s_copies_may_not_read_another_s(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    access = GrantedAccess(frozenset({(Permission.ENVIRONMENT_READ, "mirror/docker.io/library/debian")}))
    async with mirroring(tmp_path, "docker.io", upstream.host, access=access) as site:
        assert "is not granted to you" in await refused(
            site, f"{name_of(upstream.host)}/manifests/latest", 403, "DENIED"
        )
        assert upstream.asked == []


# real registries


async def test_the_reference_registry_is_pulled_through(tmp_path: Path, reference: str) -> None:
    both = index(FIRST, SECOND)
    for content, tags in ((FIRST, ["one"]), (SECOND, []), (both, ["latest", "v1"])):
        await push(reference, APP, content, *tags)
    async with mirroring(tmp_path / "data", reference) as site:
        name = name_of(reference)
        await assert_pulled(site, name, "latest", both)
        for each in (FIRST, SECOND):
            await assert_pulled(site, name, each.digest, each)
        assert json.loads(await get(site, f"{name}/tags/list")) == {"name": name, "tags": ["latest", "one", "v1"]}
        assert json.loads(await get(site, "_catalog")) == {"repositories": [name]}
        assert "has no manifest other in team/app" in await refused(
            site, f"{name}/manifests/other", 404, "MANIFEST_UNKNOWN"
        )


async def test_a_sha512_upstream_is_pulled_through(tmp_path: Path) -> None:
    content = image(b"layer", algorithm="sha512")
    async with serving(tmp_path / "upstream") as far:
        address = f"127.0.0.1:{far.host_port[1]}"
        await push(address, APP, content, "latest")
        async with mirroring(tmp_path / "data", address) as site:
            await assert_pulled(site, name_of(address), "latest", content)
            digest = Digest.of(content.body, "sha512")
            await refused(site, f"{name_of(address)}/manifests/{digest}", 404, "MANIFEST_UNKNOWN")
            await push(address, APP, content, digest)
            assert await get(site, f"{name_of(address)}/manifests/{digest}") == content.body


async def test_referrers_come_from_the_upstream_a_page_at_a_time(tmp_path: Path) -> None:
    subject = {"mediaType": FIRST.media_type, "digest": FIRST.digest, "size": len(FIRST.body)}
    kinds = ["application/x.sbom", "application/x.signature"]
    attached = [
        image(b"%d" % number, subject=subject, artifactType=kinds[number % 2], annotations={"n": str(number)})
        for number in range(5)
    ]
    async with serving(tmp_path / "upstream") as far:
        address = f"127.0.0.1:{far.host_port[1]}"
        for content in (FIRST, *attached):
            await push(address, APP, content)
        async with mirroring(tmp_path / "data", address) as site:
            path = f"{name_of(address)}/referrers/{FIRST.digest}"
            whole = json.loads(await get(site, path))
            assert whole == json.loads(await get(far, f"{APP}/referrers/{FIRST.digest}"))
            assert [each["digest"] for each in whole["manifests"]] == sorted(each.digest for each in attached)
            found = []
            following: str | None = f"/v2/{path}?n=2&artifactType=application/x.sbom"
            while following:
                async with site.request("GET", following) as response:
                    assert response.headers["OCI-Filters-Applied"] == "artifactType"
                    page = json.loads(await response.read())["manifests"]
                    assert len(page) <= 2
                    found += page
                    following = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
            assert [each["annotations"]["n"] for each in found] == [
                each["annotations"]["n"] for each in whole["manifests"] if each["artifactType"] == kinds[0]
            ]


async def test_referrers_of_a_registry_without_that_api_are_found_by_tag(tmp_path: Path, reference: str) -> None:
    await push(reference, APP, FIRST, "latest")
    await push(reference, APP, SECOND)
    await push(reference, APP, index(SECOND), f"sha256-{FIRST.digest.hex}")
    async with mirroring(tmp_path / "data", reference) as site:
        found = json.loads(await get(site, f"{name_of(reference)}/referrers/{FIRST.digest}"))
        assert [each["digest"] for each in found["manifests"]] == [SECOND.digest]
        assert found["mediaType"] == OCI_INDEX
        none = json.loads(await get(site, f"{name_of(reference)}/referrers/{SECOND.digest}"))
        assert none["manifests"] == []


LOGIN = Login(USER, PASSWORD)


async def test_a_registry_that_wants_a_password_gets_it(tmp_path: Path) -> None:
    with reference_registry(tmp_path / "upstream", password_auth(tmp_path)) as address:
        name = name_of(address)
        await push(address, APP, FIRST, "latest", authorization=aiohttp.encode_basic_auth(USER, PASSWORD))
        async with mirroring(tmp_path / "data", address, logins={address: LOGIN}) as site:
            await assert_pulled(site, name, "latest", FIRST)
        for logins in ({}, {address: Login(USER, "wrong")}, {"elsewhere.example": LOGIN}):
            async with mirroring(tmp_path / "without", address, logins=logins) as site:
                message = await refused(site, f"{name}/manifests/latest", 404, "MANIFEST_UNKNOWN")
                assert "answered 401 to the request for manifest latest in team/app" in message


@pytest.mark.parametrize("login", [LOGIN, None], ids=["login", "anonymous"])
async def test_a_registry_that_wants_a_token_gets_it(tmp_path: Path, login: Login | None) -> None:
    with token_auth(tmp_path) as (auth, tokens), reference_registry(tmp_path / "upstream", auth) as address:
        realm = auth.split("realm: '")[1].partition("'")[0]
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{realm}?scope=repository:{APP}:pull,push") as response:
                token = (await response.json(content_type=None))["token"]
        await push(address, APP, FIRST, "latest", authorization=f"Bearer {token}")
        tokens.scopes.clear()
        tokens.logins.clear()
        internal = [address, realm.removeprefix("http://").partition("/")[0]]
        logins = {address: login} if login else {}
        async with mirroring(tmp_path / "data", address, internal=internal, logins=logins) as site:
            await assert_pulled(site, name_of(address), "latest", FIRST)
        assert tokens.scopes == [f"repository:{APP}:pull"], "a token is good for more than one request"
        assert tokens.logins == [aiohttp.encode_basic_auth(USER, PASSWORD) if login else ""]


async def test_a_token_that_has_ended_is_replaced(tmp_path: Path) -> None:
    with (
        token_auth(tmp_path, lifetime=-61) as (auth, tokens),
        reference_registry(tmp_path / "upstream", auth) as address,
    ):
        internal = [address, auth.split("realm: 'http://")[1].partition("/")[0]]
        async with mirroring(tmp_path / "data", address, internal=internal, **QUICK) as site:
            for number in range(1, 4):
                message = await refused(site, f"{name_of(address)}/manifests/latest", 404, "MANIFEST_UNKNOWN")
                assert "answered 401 to the request for manifest latest" in message
                assert len(tokens.scopes) == number, "each request asks for one token, and not without end"


async def test_a_copy_outlives_its_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "upstream"
    directory.mkdir()
    with distribution.serving(distribution.needed_registry(), directory) as (port, process):
        address = f"127.0.0.1:{port}"
        await push(address, APP, FIRST, "latest", "other")
        async with mirroring(tmp_path / "data", address, **QUICK) as site:
            name = name_of(address)
            await assert_pulled(site, name, "latest", FIRST)
            assert await warnings(site, f"{name}/manifests/latest") == []
            os.kill(process, signal.SIGKILL)
            await wait_until_gone(port)
            await assert_pulled(site, name, "latest", FIRST)
            reason = f"{address} cannot be reached, or broke the connection"
            assert await warnings(site, f"{name}/manifests/latest") == [
                '110 - "Response is Stale"',
                f'111 - "Revalidation Failed: {reason}"',
            ]
            assert json.loads(await get(site, f"{name}/tags/list"))["tags"] == ["latest"]
            assert len(await warnings(site, f"{name}/tags/list")) == 2
            assert await refused(site, f"{name}/manifests/other", 404, "MANIFEST_UNKNOWN") == reason
            assert await refused(site, f"{name_of(address, 'no/copy')}/tags/list", 404, "MANIFEST_UNKNOWN") == reason
        # what is kept is kept by the database, not by the process
        async with mirroring(tmp_path / "data", address, **QUICK) as site:
            await assert_pulled(site, name, "latest", FIRST)


async def wait_until_gone(port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(0.02)


# fresh and stale


async def test_a_fresh_copy_is_served_without_asking(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        for _ in range(5):
            await assert_pulled(site, f"{upstream.mirrored}/{APP}", "latest", FIRST)
        assert upstream.count("GET", "/manifests/") == 1
        assert upstream.count("HEAD", "/") == 0
        assert upstream.count("GET", "/blobs/") == len(FIRST.blobs)
    upstream.asked.clear()
    async with mirroring(tmp_path, upstream.host) as site:
        await assert_pulled(site, f"{upstream.mirrored}/{APP}", "latest", FIRST)
        assert upstream.asked == [], "a new process asks for what is fresh"


async def test_a_copy_that_is_not_fresh_is_confirmed_without_a_pull(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host, mirror_fresh_for=0.0) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        for _ in range(3):
            assert await get(site, path) == FIRST.body
        assert upstream.asked == [
            ("GET", f"/v2/{APP}/manifests/latest"),
            *[("HEAD", f"/v2/{APP}/manifests/latest")] * 2,
        ]


async def test_a_tag_that_moves_moves_here(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host, mirror_fresh_for=0.0) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        assert await get(site, path) == FIRST.body
        upstream.put(APP, SECOND, "latest")
        assert await get(site, path) == SECOND.body
        # and back, to what is here already
        upstream.put(APP, FIRST, "latest")
        upstream.asked.clear()
        assert await get(site, path) == FIRST.body
        assert upstream.count("GET", "/") == 0
        # gone: that is no failure of the registry
        del upstream.manifests[APP, "latest"]
        assert "has no manifest latest in team/app" in await refused(site, path, 404, "MANIFEST_UNKNOWN")
        async with upstream_down(upstream):
            await refused(site, path, 404, "MANIFEST_UNKNOWN")
        assert await get(site, path.replace("latest", FIRST.digest)) == FIRST.body


@contextlib.asynccontextmanager
async def upstream_down(upstream: ScriptedRegistry, status: int = 503, **headers: str) -> AsyncIterator[None]:
    async def fail(_request: web.Request) -> web.StreamResponse:
        return failure(status, "TOOMANYREQUESTS", "you have reached your limit", **headers)

    upstream.behaviour = fail
    yield
    upstream.behaviour = None


async def test_an_upstream_that_does_not_tell_the_digest_is_asked_whether_it_changed(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    async def without_digest(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("If-None-Match") == f'"{FIRST.digest}"':
            return web.Response(status=304)
        return web.Response(body=FIRST.body, headers={"Content-Type": f"{FIRST.media_type}; charset=utf-8"})

    upstream.behaviour = without_digest
    async with mirroring(tmp_path, upstream.host, mirror_fresh_for=0.0) as site:
        for _ in range(2):
            await assert_pulled_manifest(site, upstream)
        assert [method for method, _ in upstream.asked] == ["GET", "HEAD", "GET"]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500, 501])
@pytest.mark.parametrize("conditional", [True, False], ids=["304", "200"])
async def test_an_upstream_that_does_not_answer_a_head_is_asked_by_a_get(
    tmp_path: Path, upstream: ScriptedRegistry, status: int, conditional: bool
) -> None:
    """A HEAD of a manifest that is refused, or answered 404, neither keeps the old tag nor drops it."""

    async def no_head(request: web.Request) -> web.StreamResponse | None:
        if request.method == "HEAD":
            return web.Response(status=status)
        found = upstream.manifests.get((APP, request.path.rpartition("/")[2]))
        if conditional and found and request.headers.get("If-None-Match") == f'"{found.digest}"':
            return web.Response(status=304)
        return None

    upstream.behaviour = no_head
    async with mirroring(tmp_path, upstream.host, mirror_fresh_for=0.0) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        for _ in range(2):
            assert await get(site, path) == FIRST.body
        upstream.put(APP, SECOND, "latest")
        assert await get(site, path) == SECOND.body
        upstream.manifests.clear()
        await refused(site, path, 404, "MANIFEST_UNKNOWN")
        # that was the real question's answer, so the tag is gone
        upstream.behaviour = None
        assert (await site.workshop.store.repositories.tags(f"{upstream.mirrored}/{APP}", None, 10)).items == []


@pytest.mark.parametrize("told", ["sha256:no", f"sha256:{'0' * 64}"])
async def test_a_head_that_tells_a_wrong_digest_is_no_verdict(
    tmp_path: Path, upstream: ScriptedRegistry, told: str
) -> None:
    async def wrong(request: web.Request) -> web.StreamResponse | None:
        return web.Response(headers={"Docker-Content-Digest": told}) if request.method == "HEAD" else None

    upstream.behaviour = wrong
    async with mirroring(tmp_path, upstream.host, mirror_fresh_for=0.0) as site:
        for _ in range(2):
            await assert_pulled_manifest(site, upstream)


async def test_a_manifest_that_is_not_taken_is_told_as_the_upstreams(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    async def nonsense(request: web.Request) -> web.StreamResponse | None:
        return web.Response(body=FIRST.body, content_type="text/html")

    upstream.behaviour = nonsense
    async with mirroring(tmp_path, upstream.host) as site:
        message = await refused(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        assert "request's" not in message
        assert "the Content-Type of its answer" in message


async def assert_pulled_manifest(site: Site, upstream: ScriptedRegistry) -> None:
    async with site.request("GET", f"/v2/{upstream.mirrored}/{APP}/manifests/latest") as response:
        assert await response.read() == FIRST.body
        assert response.headers["Content-Type"] == FIRST.media_type


@pytest.mark.parametrize("status", [429, 500, 502, 503, 401, 403])
async def test_whatever_the_failure_a_copy_is_served(tmp_path: Path, upstream: ScriptedRegistry, status: int) -> None:
    async with mirroring(tmp_path, upstream.host, **QUICK) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        assert await get(site, path) == FIRST.body
        async with upstream_down(upstream, status):
            assert await get(site, path) == FIRST.body
            stale, reason = await warnings(site, path)
        assert stale == '110 - "Response is Stale"'
        assert (f"answered {status} to the request for" if status != 429 else "limits requests") in reason
        assert await warnings(site, path) == []


async def test_only_a_limit_without_a_copy_is_429_and_is_not_asked_for_again(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    async with mirroring(tmp_path, upstream.host, mirror_fresh_for=0.0, mirror_retry_after=0.0) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        async with upstream_down(upstream, 429, Retry_After="77"):
            for _ in range(3):
                async with site.request("GET", f"/v2/{path}") as response:
                    assert response.status == 429
                    assert response.headers["Retry-After"] == "77"
                    [error] = (await response.json())["errors"]
                    assert error["code"] == "TOOMANYREQUESTS"
                    assert error["message"] == f"{upstream.host} limits requests: you have reached your limit"
        assert len(upstream.asked) == 1


async def test_a_failure_is_remembered_for_a_while(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host, mirror_fresh_for=0.0, mirror_retry_after=60.0) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        assert await get(site, path) == FIRST.body
        upstream.asked.clear()
        async with upstream_down(upstream):
            for _ in range(3):
                assert len(await warnings(site, path)) == 2
        # the cheap question and the real one, once
        assert [method for method, _ in upstream.asked] == ["HEAD", "GET"]


async def test_an_upstream_that_takes_its_time_is_not_waited_for(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    answers = asyncio.Event()

    async def slow(_request: web.Request) -> None:
        await answers.wait()

    http = HttpSettings(answer_within=0.2)
    async with mirroring(tmp_path, upstream.host, http=http, mirror_fresh_for=0.0, mirror_patience=0.1) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        upstream.behaviour = slow
        message = await refused(site, path, 404, "MANIFEST_UNKNOWN")
        assert "has not answered for 0 seconds; the request goes on, so try again" in message
        answers.set()
        mirror = site.app[PARTS].mirror
        assert mirror is not None
        while mirror._asking._flights:
            await asyncio.sleep(0.01)
        answers.clear()
        # what was asked went on, and what came is better than nothing
        assert len(await warnings(site, path)) == 2
        assert upstream.count("GET", "/manifests/") == 1
        answers.set()


async def test_many_who_ask_at_once_ask_the_upstream_once(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    upstream.put(APP, SECOND)
    async with mirroring(tmp_path, upstream.host) as site:
        path = f"{upstream.mirrored}/{APP}"
        await asyncio.gather(*(get(site, f"{path}/manifests/latest") for _ in range(20)))
        await asyncio.gather(*(get(site, f"{path}/manifests/{SECOND.digest}") for _ in range(20)))
        await asyncio.gather(*(get(site, f"{path}/tags/list", 404) for _ in range(20)))
        assert upstream.count("GET", "/manifests/") == 2


# what is not taken


async def test_content_of_another_digest_is_not_taken(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async def lie(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=SECOND.body, headers={"Content-Type": SECOND.media_type, "Docker-Content-Digest": FIRST.digest}
        )

    upstream.behaviour = lie
    async with mirroring(tmp_path, upstream.host, **QUICK) as site:
        for reference in ("latest", FIRST.digest):
            path = f"{upstream.mirrored}/{APP}/manifests/{reference}"
            message = await refused(site, path, 404, "MANIFEST_UNKNOWN")
            assert f"sent content with digest {SECOND.digest} for manifest {reference}" in message
        upstream.behaviour = None
        assert await get(site, f"{upstream.mirrored}/{APP}/manifests/latest") == FIRST.body
        upstream.behaviour = lie
        # the tag says what is here, so nothing needs to be sent; but where it moves, the lie is met
        assert await get(site, f"{upstream.mirrored}/{APP}/manifests/latest") == FIRST.body


@pytest.mark.parametrize(
    ("media_type", "body", "message"),
    [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion":1}', "schema 1"),
        ("application/vnd.example+json", b'{"schemaVersion":2}', "expected one of"),
        (DOCKER_MANIFEST, FIRST.body, "expected the same"),
        (FIRST.media_type, b"<html>", "invalid JSON"),
        (FIRST.media_type, FIRST.body.replace(b'"layers"', b'"manifests":[],"layers"'), "two things at once"),
        (FIRST.media_type, b"[" * 5000, "invalid JSON"),
        (FIRST.media_type, b" " * ((4 << 20) + 1), "more than the allowed 4194304 bytes"),
    ],
    ids=["schema 1", "unknown", "another type", "no JSON", "ambiguous", "nested", "large"],
)
async def test_documents_that_are_not_taken(
    tmp_path: Path, upstream: ScriptedRegistry, media_type: str, body: bytes, message: str
) -> None:
    odd = Content(body, {}, media_type)
    async with mirroring(tmp_path, upstream.host, **QUICK) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        upstream.put(APP, odd, "latest")
        assert message in await refused(site, path, 404, "MANIFEST_UNKNOWN")
        assert message in await refused(site, path.replace("latest", odd.digest), 404, "MANIFEST_UNKNOWN")
        # where there is a copy, that is better than nothing
        upstream.put(APP, FIRST, "latest")
        assert await get(site, path) == FIRST.body
        upstream.put(APP, odd, "latest")
        assert await get(site, path) == FIRST.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"tags":7}',
        b'{"tags":[1,null,{}]}',
        b'{"tags":null}',
        b'{"tags":["-", "a b", "' + b"x" * 129 + b'"]}',
    ],
)
async def test_odd_lists_of_tags(tmp_path: Path, upstream: ScriptedRegistry, body: bytes) -> None:
    async def odd(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    upstream.behaviour = odd
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", f"/v2/{upstream.mirrored}/{APP}/tags/list") as response:
            assert response.status == (200 if body else 404)
            if body:
                assert (await response.json())["tags"] == []


async def test_a_list_of_many_pages_is_read_whole_and_cut_anew(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    names = [f"v{number}" for number in range(25)]

    async def paged(request: web.Request) -> web.StreamResponse:
        at = int(request.query.get("opaque", "0"))
        more = {"Link": f'</v2/{APP}/tags/list?opaque={at + 10}>; rel="next"'} if at + 10 < len(names) else {}
        return web.json_response({"name": APP, "tags": names[at : at + 10]}, headers=more)

    upstream.behaviour = paged
    async with mirroring(tmp_path, upstream.host) as site:
        path = f"{upstream.mirrored}/{APP}/tags/list"
        assert json.loads(await get(site, path))["tags"] == sorted(names)
        async with site.request("GET", f"/v2/{path}?n=3&last=v10") as response:
            assert (await response.json())["tags"] == ["v11", "v12", "v13"]
            assert response.headers["Link"] == f'</v2/{path}?n=3&last=v13>; rel="next"'
        assert len(upstream.asked) == 3, "a fresh list is kept"


@pytest.mark.parametrize("rest", ["http://169.254.169.254/latest/", "//elsewhere.example/v2/", "?n=1"])
async def test_a_list_goes_on_at_its_registry_or_not_at_all(
    tmp_path: Path, upstream: ScriptedRegistry, rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.mirror.upstream.MOST_PAGES", 5)

    async def endless(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"tags": ["a"]}, headers={"Link": f'<{rest}>; rel="next"'})

    upstream.behaviour = endless
    async with mirroring(tmp_path, upstream.host) as site:
        message = await refused(site, f"{upstream.mirrored}/{APP}/tags/list", 404, "MANIFEST_UNKNOWN")
        assert "has the rest of its list of tags at" in message or "of more than 5 pages" in message
        assert len(upstream.asked) <= 5


async def test_an_upstreams_words_are_plain_and_few(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async def shout(_request: web.Request) -> web.StreamResponse:
        return failure(404, "MANIFEST_UNKNOWN", "\x1b[31mred\r\n" + "x" * 10_000)

    upstream.behaviour = shout
    async with mirroring(tmp_path, upstream.host) as site:
        message = await refused(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        assert message.isprintable()
        assert len(message) < 500


# rules


WRITES = [
    ("PUT", "manifests/latest"), ("DELETE", "manifests/latest"), ("DELETE", f"blobs/{FIRST.layer}"),
    ("POST", "blobs/uploads/"), ("POST", f"blobs/uploads/?mount={FIRST.layer}&from=a"),
    ("PATCH", "blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_copies_cannot_be_written_to(tmp_path: Path, upstream: ScriptedRegistry, method: str, path: str) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        for name in (f"{upstream.mirrored}/{APP}", "mirror/elsewhere.example/a", "mirror"):
            message = await refused(site, f"{name}/{path}", 403, "DENIED", method)
            assert message == f"{name} is reserved for a copy from another registry; push or delete there"
    async with serving(tmp_path / "without") as site:
        await refused(site, f"mirror/ghcr.io/a/{path}", 403, "DENIED", method)


BY_DIGEST = [f"manifests/{FIRST.digest}", f"blobs/{FIRST.layer}", f"referrers/{FIRST.digest}"]


@pytest.mark.parametrize("path", ["manifests/latest", "tags/list", *BY_DIGEST])
async def test_what_is_not_mirrored(tmp_path: Path, upstream: ScriptedRegistry, path: str) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        message = await refused(site, f"mirror/quay.io/a/{path}", 404, "NAME_UNKNOWN")
        assert message == f"quay.io is not mirrored here; {upstream.host} is"
        await refused(site, f"mirror/{path}", 404, "NAME_UNKNOWN")
    async with serving(tmp_path / "without") as site:
        message = await refused(site, f"mirror/quay.io/a/{path}", 404, "NAME_UNKNOWN")
        assert message == "no other registry is mirrored here; the setting `mirrors` lists them"


async def test_what_is_not_mirrored_any_more_is_not_served(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    name = f"{upstream.mirrored}/{APP}"
    async with mirroring(tmp_path, upstream.host) as site:
        await assert_pulled(site, name, "latest", FIRST)
    async with mirroring(tmp_path, "ghcr.io") as site:
        for reference in ("manifests/latest", f"manifests/{FIRST.digest}", f"blobs/{FIRST.layer}"):
            await refused(site, f"{name}/{reference}", 404, "NAME_UNKNOWN")


async def test_what_is_mirrored_can_be_mounted_and_tags_be_kept(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        await assert_pulled(site, f"{upstream.mirrored}/{APP}", "latest", FIRST)
        query = f"mount={FIRST.layer}&from={upstream.mirrored}/{APP}"
        await get(site, f"own/app/blobs/uploads/?{query}", 201, "POST")
        await get(site, f"own/app/blobs/uploads/?{query.replace('_', '_9')}", 202, "POST")


async def test_a_pull_is_written_down(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    begun = time.time()
    async with mirroring(tmp_path, upstream.host) as site:
        name = f"{upstream.mirrored}/{APP}"
        await get(site, f"{name}/manifests/latest")
        database = site.workshop.store.database
        async with database.writing() as connection:
            await connection.exec_driver_sql("UPDATE mirrored_manifest SET pulled = 1")
    async with mirroring(tmp_path, upstream.host) as site:
        for _ in range(3):
            await get(site, f"{name}/manifests/{FIRST.digest}")
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.workshop.store.database.reading() as connection:
            [(pulled,)] = await connection.exec_driver_sql("SELECT pulled FROM mirrored_manifest")
        assert pulled > begun
