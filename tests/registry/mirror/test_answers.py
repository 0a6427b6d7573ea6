"""What other registries answer: documents, lists and words, of which some are not taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web

from storage.oci import DOCKER_MANIFEST
from tests.support.registry.mirrored import APP, FIRST, SECOND, get, get_refusal
from tests.support.registry.upstreams import QUICK, Content, ScriptedRegistry, failure, mirroring


async def test_cve_2024_6915_content_of_another_digest_is_not_taken(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async def lie(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=SECOND.body, headers={"Content-Type": SECOND.media_type, "Docker-Content-Digest": FIRST.digest}
        )

    upstream.behaviour = lie
    async with mirroring(tmp_path, upstream.host, **QUICK) as site:
        for reference in ("latest", FIRST.digest):
            path = f"{upstream.mirrored}/{APP}/manifests/{reference}"
            message = await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
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
        assert message in await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
        assert message in await get_refusal(site, path.replace("latest", odd.digest), 404, "MANIFEST_UNKNOWN")
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
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/tags/list", 404, "MANIFEST_UNKNOWN")
        assert "has the rest of its list of tags at" in message or "of more than 5 pages" in message
        assert len(upstream.asked) <= 5


async def test_an_upstreams_words_are_plain_and_few(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async def shout(_request: web.Request) -> web.StreamResponse:
        return failure(404, "MANIFEST_UNKNOWN", "\x1b[31mred\r\n" + "x" * 10_000)

    upstream.behaviour = shout
    async with mirroring(tmp_path, upstream.host) as site:
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        assert message.isprintable()
        assert len(message) < 500
