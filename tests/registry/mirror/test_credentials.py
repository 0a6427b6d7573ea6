"""Credentials of the namespace of mirrors: sent to the registries and repositories they are for, and nowhere else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from builder.remote.logins import Login
from storage.catalog.credential import NamespaceCredential
from storage.oci import OCI_INDEX
from tests.support.registry.mirrored import APP, FIRST, SECOND, get, get_refusal
from tests.support.registry.serving import Site
from tests.support.registry.upstreams import QUICK, ScriptedRegistry, failure, mirroring, scripted_registry

OTHER = "other/app"
SECRET = "secret-of-the-mirror"


@dataclass
class Held:
    """The credentials of namespaces, changed at once."""

    held: list[NamespaceCredential] = field(default_factory=list)

    def put(self, address: str, secret: str = SECRET) -> None:
        self.held = [NamespaceCredential(f"id of {secret}", "mirror", "registry", address, "basic", secret, "me")]

    async def find(self, namespace: str) -> Sequence[NamespaceCredential]:
        return [each for each in self.held if each.namespace == namespace]


def basic(secret: str) -> str:
    return aiohttp.encode_basic_auth("me", secret)


def wants(upstream: ScriptedRegistry, *accepted: str) -> None:
    async def behave(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") in accepted:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    upstream.behaviour = behave


async def test_they_are_shown_for_what_they_cover_alone(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    upstream.put(OTHER, SECOND, "latest")
    wants(upstream, basic(SECRET))
    own = Held()
    own.put(f"{upstream.host}/{APP}")
    async with mirroring(tmp_path, upstream.host, own=own, **QUICK) as site:
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        asked = len(upstream.headers)
        await get_refusal(site, f"{upstream.mirrored}/{OTHER}/manifests/latest", 404, "MANIFEST_UNKNOWN")
    assert [each.get("Authorization") for each in upstream.headers[asked:]] == [None]


async def test_they_go_before_those_of_the_settings(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    wants(upstream, basic(SECRET))
    own = Held()
    own.put(upstream.host)
    logins = {upstream.host: Login("me", "of the settings")}
    async with mirroring(tmp_path, upstream.host, own=own, logins=logins, **QUICK) as site:
        assert await get(site, f"{upstream.mirrored}/{APP}/manifests/latest") == FIRST.body


async def test_changes_count_at_the_next_request(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    wants(upstream, basic(SECRET), basic("another"))
    own = Held()
    async with mirroring(tmp_path, upstream.host, own=own, **QUICK) as site:
        await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        own.put(upstream.host)
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        wants(upstream, basic("another"))
        own.put(upstream.host, "another")
        before = len(upstream.headers)
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        assert basic(SECRET) not in [each.get("Authorization") for each in upstream.headers[before:]]
        own.held.clear()
        before = len(upstream.headers)
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        assert {each.get("Authorization") for each in upstream.headers[before:]} == {None}


async def test_cve_2020_15157_they_follow_no_redirect_and_no_foreign_realm(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    async with scripted_registry() as elsewhere:
        elsewhere.put(APP, FIRST, "latest")

        async def away(request: web.Request) -> web.StreamResponse | None:
            if request.headers.get("Authorization") != basic(SECRET):
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return web.Response(status=307, headers={"Location": f"http://{elsewhere.host}{request.path}"})

        upstream.behaviour = away
        own = Held()
        own.put(upstream.host)
        hosts = [upstream.host, elsewhere.host]
        async with mirroring(tmp_path, upstream.host, internal=hosts, own=own, **QUICK) as site:
            await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
            assert elsewhere.asked

            async def realm(_request: web.Request) -> web.StreamResponse | None:
                challenge = f'Bearer realm="http://localhost:{elsewhere.port}/token"'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})

            upstream.behaviour = realm
            await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
            message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/other", 404, "MANIFEST_UNKNOWN")
            assert "asks to send its login to localhost" in message
        assert {each.get("Authorization") for each in elsewhere.headers} == {None}


async def test_changes_count_where_a_failure_is_remembered(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    """Also one for which the registry asked to be left alone for minutes."""

    async def limit(request: web.Request) -> web.StreamResponse | None:
        shown = request.headers.get("Authorization", "")
        if request.path == "/token":
            return web.json_response({"token": "known" if shown == basic(SECRET) else "anonymous"})
        if shown == "Bearer known":
            return None
        if shown and request.path.endswith("limited"):
            return failure(429, "TOOMANYREQUESTS", "sign in", Retry_After="600")
        realm = f'Bearer realm="http://{upstream.host}/token"'
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    upstream.put(APP, FIRST, "latest", "limited")
    upstream.behaviour = limit
    own = Held()
    name = f"{upstream.mirrored}/{APP}"
    paths = {
        f"{name}/manifests/limited": 429,
        f"{name}/manifests/latest": 404,
        f"{name}/manifests/{FIRST.digest}": 404,
        f"{name}/blobs/{FIRST.layer}": 404,
    }
    async with mirroring(tmp_path, upstream.host, own=own, mirror_retry_after=600.0) as site:
        for path, status in paths.items():
            await get(site, path, status, "HEAD" if "blobs" in path else "GET")
        asked = len(upstream.asked)
        for path, status in paths.items():
            await get(site, path, status, "HEAD" if "blobs" in path else "GET")
        assert len(upstream.asked) == asked, "a failure is remembered"
        own.put(upstream.host)
        for path in paths:
            await get(site, path, 200, "HEAD" if "blobs" in path else "GET")


async def test_lists_are_of_who_asked_for_them(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async def by_login(request: web.Request) -> web.StreamResponse | None:
        shown = request.headers.get("Authorization")
        if "tags" in request.path:
            tags = ["private"] if shown == basic(SECRET) else ["public"]
            return web.json_response({"name": APP, "tags": tags})
        if "referrers" in request.path:
            entry = {"mediaType": FIRST.media_type, "digest": FIRST.digest, "size": len(FIRST.body)}
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] if shown else []}
            return web.json_response(index, content_type=OCI_INDEX)
        # a login is sent once it is asked for
        return None if shown else web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    upstream.behaviour = by_login
    own = Held()
    name = f"{upstream.mirrored}/{APP}"

    async def lists(site: Site) -> tuple[list[str], int]:
        tags = json.loads(await get(site, f"{name}/tags/list"))["tags"]
        return tags, len(json.loads(await get(site, f"{name}/referrers/{FIRST.digest}"))["manifests"])

    async with mirroring(tmp_path, upstream.host, own=own, mirror_retry_after=0.0) as site:
        assert await lists(site) == (["public"], 0)
        own.put(upstream.host)
        await get(site, f"{name}/manifests/latest")
        assert await lists(site) == (["private"], 1)
        asked = len(upstream.asked)
        assert await lists(site) == (["private"], 1)
        assert len(upstream.asked) == asked, "a list is kept"
        own.held.clear()
        assert await lists(site) == (["public"], 0)


def says(request: web.Request) -> str:
    """What was sent, in several forms, as a careless registry repeats it."""
    shown = request.headers["Authorization"]
    told = [shown, shown.rstrip("=")]
    if shown.startswith("Basic "):
        secret = base64.b64decode(shown.split()[1]).decode().partition(":")[2]
        told += [secret, quote(secret, safe=""), quote(shown, safe="")]
    return " and ".join(told)


TOKEN = "token-that-was-given"
REPEATED: Mapping[str, Callable[[str], web.Response]] = {
    "message": lambda said: failure(403, "DENIED", said),
    "end of a message": lambda said: failure(403, "DENIED", "x" * 380 + said),
    "status line": lambda said: web.Response(status=403, reason=said),
    "limit": lambda said: failure(429, "TOOMANYREQUESTS", said),
    "digest": lambda said: web.Response(body=FIRST.body, headers={"Docker-Content-Digest": said}),
    "media type": lambda said: web.json_response({"schemaVersion": 2, "mediaType": said}),
    "keys": lambda said: web.Response(
        body=json.dumps({said: {said: {said: 1e9}}}).replace("1000000000.0", "1e999").encode()
    ),
}


@pytest.mark.parametrize("place", ["registry", "registry with a token", "token server"])
@pytest.mark.parametrize("way", REPEATED)
async def test_a_registry_that_repeats_what_it_got_shows_no_secret(
    tmp_path: Path, upstream: ScriptedRegistry, way: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither to pullers nor in the log."""
    secret = "s3cret/of the=mirror"
    repeated = []

    async def repeat(request: web.Request) -> web.StreamResponse | None:
        if "Authorization" not in request.headers:
            realm = "Basic realm" if place == "registry" else "Bearer realm"
            return web.Response(status=401, headers={"WWW-Authenticate": f'{realm}="http://{upstream.host}/token"'})
        if request.path == "/token" and place != "token server":
            return web.json_response({"token": TOKEN})
        repeated.append(says(request))
        return REPEATED[way](repeated[-1])

    upstream.behaviour = repeat
    own = Held()
    own.put(upstream.host, secret)
    name = f"{upstream.mirrored}/{APP}"
    said = []
    async with mirroring(tmp_path, upstream.host, own=own, **QUICK) as site:
        for path in ("manifests/latest", "tags/list"):
            async with site.request("GET", f"/v2/{name}/{path}") as response:
                said += [await response.text(), *response.headers.values()]
        shown = "".join([*said, site.log.getvalue(), *capsys.readouterr()])
    assert repeated
    pair = base64.b64encode(f"me:{secret}".encode()).decode()
    for form in (secret, quote(secret, safe=""), quote(secret), pair, pair[4:-4], secret[:7], TOKEN, TOKEN[:8]):
        assert form not in shown
    if place != "token server" or way in ("message", "status line", "limit"):
        assert "***" in shown, "it is the host's words that are shown"


@pytest.mark.parametrize("realm", ["", "/token", "tokens.example/token"])
async def test_a_realm_that_is_no_address_is_told(tmp_path: Path, upstream: ScriptedRegistry, realm: str) -> None:
    async def challenge(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    upstream.behaviour = challenge
    own = Held()
    own.put(upstream.host)
    async with mirroring(tmp_path, upstream.host, own=own, **QUICK) as site:
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
    assert message == f"{upstream.host} names {realm!r} as its token server, which is no URL"
