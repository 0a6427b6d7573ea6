"""What mirrors are asked, and what they answer."""

from __future__ import annotations

import json

from tests.support.registry.serving import Site
from tests.support.registry.upstreams import image

APP = "team/app"
FIRST, SECOND = image(b"first layer"), image(b"second layer")


def name_of(address: str, repository: str = APP) -> str:
    return f"mirror/{address.replace(':', '_')}/{repository}"


async def get(site: Site, path: str, status: int = 200, method: str = "GET", **options: object) -> bytes:
    async with site.request(method, f"/v2/{path}", **options) as response:
        body = await response.read()
        assert response.status == status, body
        return body


async def refused(site: Site, path: str, status: int, code: str, method: str = "GET") -> str:
    """The message of an error that is expected."""
    [error] = json.loads(await get(site, path, status, method))["errors"]
    assert error["code"] == code
    message: str = error["message"]
    return message
