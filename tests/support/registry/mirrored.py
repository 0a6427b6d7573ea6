"""Requests to mirrors, and checks of their answers."""

from __future__ import annotations

import json

from tests.support.registry.serving import Site
from tests.support.registry.upstreams import Content, image

APP = "team/app"
FIRST, SECOND = image(b"first layer"), image(b"second layer")


def name_of(address: str, repository: str = APP) -> str:
    return f"mirror/{address.replace(':', '_')}/{repository}"


async def get(site: Site, path: str, status: int = 200, method: str = "GET", **options: object) -> bytes:
    async with site.request(method, f"/v2/{path}", **options) as response:
        body = await response.read()
        assert response.status == status, body
        return body


async def get_refusal(site: Site, path: str, status: int, code: str, method: str = "GET") -> str:
    """The message of an expected error."""
    [error] = json.loads(await get(site, path, status, method))["errors"]
    assert error["code"] == code
    message: str = error["message"]
    return message


async def warnings(site: Site, path: str) -> list[str]:
    async with site.request("GET", f"/v2/{path}") as response:
        assert response.status == 200, await response.text()
        return response.headers.getall("Warning", [])


async def assert_pulled(site: Site, name: str, reference: str, expected: Content) -> None:
    """Pull as clients do: HEAD of the tag, GET of its digest, and GET of everything in it."""
    async with site.request("HEAD", f"/v2/{name}/manifests/{reference}") as head:
        assert head.status == 200
        assert head.headers["Docker-Content-Digest"] == expected.digest
        assert head.headers["Content-Type"] == expected.media_type
    assert await get(site, f"{name}/manifests/{reference}") == expected.body
    assert await get(site, f"{name}/manifests/{expected.digest}") == expected.body
    for digest, data in expected.blobs.items():
        assert await get(site, f"{name}/blobs/{digest}") == data
        assert await get(site, f"{name}/blobs/{digest}") == data
