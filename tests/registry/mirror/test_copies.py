"""Copies of manifests and tags: fresh, confirmed, stale, and while their registry fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from registry.http.settings import HttpSettings
from registry.parts import PARTS
from storage.quotas.limits import Limits
from tests.support.registry.mirrored import APP, FIRST, SECOND, assert_pulled, get, get_refusal, warnings
from tests.support.registry.serving import Site
from tests.support.registry.upstreams import QUICK, ScriptedRegistry, failure, mirroring


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
        assert "has no manifest latest in team/app" in await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
        async with upstream_down(upstream):
            await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
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
        await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
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
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
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


async def test_a_copy_is_served_though_the_next_does_not_fit(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    limits = Limits(namespace=len(FIRST.body) + len(SECOND.body) - 1)
    async with mirroring(tmp_path, upstream.host, limits=limits, mirror_fresh_for=0.0) as site:
        path = f"{upstream.mirrored}/{APP}/manifests/latest"
        assert await get(site, path) == FIRST.body
        for tag in ("latest", "other"):
            upstream.put(APP, SECOND, tag)
        assert await get(site, path) == FIRST.body
        stale, reason = await warnings(site, path)
        assert stale == '110 - "Response is Stale"'
        assert f"namespace mirror may hold {limits.namespace:,} bytes" in reason
        assert "namespace mirror" in await get_refusal(site, path.replace("latest", "other"), 403, "DENIED")


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
        message = await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
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
