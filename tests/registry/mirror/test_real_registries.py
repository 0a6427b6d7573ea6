"""Pulling through real registries: with and without a password, and after they are gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from builder.remote.logins import Login
from storage.digest import Digest
from storage.oci import OCI_INDEX
from tests.support.registry.mirrored import APP, FIRST, SECOND, assert_pulled, get, get_refusal, name_of, warnings
from tests.support.registry.serving import serving
from tests.support.registry.upstreams import QUICK, image, index, mirroring, push
from tests.support.servers import distribution
from tests.support.servers.reference_registry import PASSWORD, USER, password_auth, reference_registry, token_auth


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry, at host:port."""
    with reference_registry(tmp_path / "upstream") as address:
        yield address


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
        assert "has no manifest other in team/app" in await get_refusal(
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
            await get_refusal(site, f"{name_of(address)}/manifests/{digest}", 404, "MANIFEST_UNKNOWN")
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
                message = await get_refusal(site, f"{name}/manifests/latest", 404, "MANIFEST_UNKNOWN")
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
                message = await get_refusal(site, f"{name_of(address)}/manifests/latest", 404, "MANIFEST_UNKNOWN")
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
            assert await get_refusal(site, f"{name}/manifests/other", 404, "MANIFEST_UNKNOWN") == reason
            assert (
                await get_refusal(site, f"{name_of(address, 'no/copy')}/tags/list", 404, "MANIFEST_UNKNOWN") == reason
            )
        # what is kept is kept by the database, not by the process
        async with mirroring(tmp_path / "data", address, **QUICK) as site:
            await assert_pulled(site, name, "latest", FIRST)


async def wait_until_gone(port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(0.02)
