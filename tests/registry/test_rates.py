"""Requests of one sender, over HTTP: who counts as one, what counts, and what is answered beyond the rate."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from aiohttp import FormData

from auth.settings import AccessSettings
from builder.work import buckets
from builder.work.claims import Caller
from registry.http.settings import HttpSettings
from registry.parts import MEMORY
from registry.rates import RATES
from tests.support.registry.people import PASSWORD, People, basic
from tests.support.registry.serving import ROOT, Site, serving

NUMPY = f"{ROOT}/numpy"
MANIFEST = f"/v2/{NUMPY}/manifests/latest"
OPEN = AccessSettings(anonymous_bindings=("*/*=viewer",))
CLOSED = AccessSettings(anonymous_bindings=("none",))
ONE = 0.001
"""Of this rate one request may come at once, and the next no sooner than a test ends."""


@contextlib.asynccontextmanager
async def limited(
    directory: Path, sign_in: AccessSettings = OPEN, *, signed_in: float = 0, anonymous: float = ONE
) -> AsyncIterator[Site]:
    """A server that believes what 127.0.0.1 says of addresses."""
    settings = HttpSettings(
        trusted_proxies=("127.0.0.1",), requests_per_second=signed_in, anonymous_requests_per_second=anonymous
    )
    async with serving(directory, settings, sign_in=sign_in) as site:
        await site.workshop.put(NUMPY)
        yield site


async def status(
    site: Site,
    path: str = MANIFEST,
    method: str = "GET",
    *,
    address: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
    data: FormData | None = None,
) -> int:
    forwarded = {"X-Forwarded-For": address} if address else {}
    async with site.request(method, path, headers={**headers, **forwarded}, data=data) as answer:
        return answer.status


async def test_without_the_settings_nothing_is_counted(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        assert site.app[RATES] is None


async def test_toomanyrequests_with_retry_after_in_the_form_of_the_route(tmp_path: Path) -> None:
    async with limited(tmp_path) as site:
        assert await status(site) == 200
        async with site.request("GET", MANIFEST) as answer:
            seconds = int(answer.headers["Retry-After"])
            assert (answer.status, 0 < seconds <= 1000) == (429, True)
            (error,) = (await answer.json())["errors"]
            assert error["code"] == "TOOMANYREQUESTS"
            assert error["message"] == f"too many requests of 127.0.0.1; try again in {seconds} seconds"
        async with site.request("GET", "/api/v1/permission/") as answer:
            assert (answer.status, "Retry-After" in answer.headers) == (429, True)
            assert (await answer.json())["code"] == "TOOMANYREQUESTS"
        async with site.request("GET", f"/files/{NUMPY}/latest/explicit.txt") as answer:
            assert (answer.status, (await answer.json())["code"]) == (429, "TOOMANYREQUESTS")
        async with site.request("GET", "/") as answer:
            assert answer.status == 429
            assert "too many requests" in await answer.text()
        # of a health check the load balancer's address would be refused, and every client with it
        assert [await status(site, path) for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path", [MANIFEST, f"/v2/{NUMPY}/tags/list", "/v2/_catalog", "/api/v1/permission/", "/"])
async def test_every_kind_of_request_counts(tmp_path: Path, method: str, path: str) -> None:
    async with limited(tmp_path) as site:
        assert await status(site, path, method) == 200
        assert await status(site, path, method) == 429


async def test_addresses_count_apart_and_an_ipv6_network_as_one(tmp_path: Path) -> None:
    async with limited(tmp_path) as site:
        for address in ("203.0.113.1", "203.0.113.2", "2001:db8:1:2::1", "2001:db8:1:3::1"):
            assert await status(site, address=address) == 200
        for address in ("203.0.113.1", "::ffff:203.0.113.2", "2001:db8:1:2:ffff::9"):
            assert await status(site, address=address) == 429


async def test_who_is_signed_in_counts_by_name_wherever_they_are(tmp_path: Path) -> None:
    async with limited(tmp_path, signed_in=ONE) as site:
        people = People(site)
        ann, bob = await people.add("ann"), await people.add("bob")
        assert await status(site) == 200
        assert await status(site) == 429
        # their neighbours' requests are none of theirs, nor is their address
        for person in (ann, bob):
            assert [await status(site, headers=person.headers) for _ in range(2)] == [200, 429]
        assert await status(site, headers=ann.headers, address="203.0.113.9") == 429
        assert await status(site, address="203.0.113.9") == 200
        # another credential of the same account is the same sender
        token = await people.access_token(ann)
        assert await status(site, headers={"Authorization": f"Bearer {token}"}) == 429


async def test_whoever_shares_an_address_with_a_flood_can_sign_in(tmp_path: Path) -> None:
    """An answer of 401 does not count, and is given however many requests came before."""
    async with limited(tmp_path, CLOSED) as site:
        people = People(site)
        await people.add("ann", f"{ROOT}/*=viewer", password=PASSWORD)
        for _ in range(20):
            assert await status(site) == 401
            assert await status(site, "/v2/") == 401
            assert await status(site, headers={"Authorization": "Bearer nonsense"}) == 401
        assert await status(site, "/token") == 200
        assert await status(site, "/token") == 429
        assert await status(site, "/") == 429
        # as docker, podman and containerd go on from there
        scope = f"/token?scope=repository:{NUMPY}:pull"
        assert await status(site, "/v2/") == 401
        assert await status(site, scope, headers=basic("ann")) == 200
        form = {"grant_type": "password", "username": "ann", "password": PASSWORD, "scope": f"repository:{NUMPY}:pull"}
        assert await status(site, "/token", "POST", data=FormData(form)) == 200
        assert await status(site, headers=basic("ann")) == 200


async def test_tokens_from_the_token_endpoint_count_for_their_account(tmp_path: Path) -> None:
    async with limited(tmp_path, CLOSED, signed_in=ONE) as site:
        await People(site).add("ann", password=PASSWORD)
        form = {"grant_type": "password", "username": "ann", "password": PASSWORD}
        assert [await status(site, "/token", "POST", data=FormData(form)) for _ in range(2)] == [200, 429]
        assert await status(site, "/token", headers=basic("ann")) == 429


async def test_a_flood_of_addresses_keeps_memory_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "MOST_KEYS", 50)
    async with limited(tmp_path) as site:
        for number in range(200):
            assert await status(site, address=f"10.0.0.{number}") == 200
        rates = site.app[RATES]
        assert rates is not None
        assert rates._anonymous is not None
        assert rates._anonymous.remembered == 50


async def test_a_pull_of_many_layers_comes_at_once(tmp_path: Path) -> None:
    """Docker asks for all layers at the same time; ten seconds' worth of requests are served like that."""
    async with limited(tmp_path, anonymous=13) as site:
        blob = await site.workshop.put_blob(b"layer")
        path = f"/v2/{ROOT}/blobs/{blob}"
        assert [await status(site, path) for _ in range(130)] == [200] * 130


async def test_builds_count_for_whoever_is_signed_in_and_else_for_the_address(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_in=OPEN) as site:
        await site.workshop.put(NUMPY)
        ann = await People(site).add("ann")
        for headers in (ann.headers, {}):
            assert await status(site, headers=headers) == 200
            site.app[MEMORY]._tags.clear()
        assert site.workshop.callers == [Caller("ann", signed_in=True), Caller("127.0.0.1")]
