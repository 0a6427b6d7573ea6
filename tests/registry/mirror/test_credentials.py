"""Credentials of the namespace of mirrors: sent to the registries and repositories they are for, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from builder.remote.repository import Login
from storage.catalog.credential import NamespaceCredential
from tests.support.registry.mirrored import APP, FIRST, SECOND, get, get_refusal
from tests.support.registry.upstreams import QUICK, ScriptedRegistry, mirroring, scripted_registry

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
