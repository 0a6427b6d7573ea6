"""The audit log has the builds that began, once each, and of those that were refused one event and their number."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from auth.audit.reading import AuditFilter
from builder.settings import BuilderSettings
from registry.app import open_parts
from registry.http.settings import HttpSettings
from registry.logs.request_log import JsonRequestLog
from registry.parts import PARTS
from registry.routes import compose
from registry.settings.model import Settings
from storage.settings import StorageSettings

Client = TestClient[web.Request, web.Application]
LEAVING = {"Accept": "application/vnd.oci.image.index.v1+json"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Of a server with real builds, which fail, since there is nothing at the channel's address."""
    settings = Settings(
        http=HttpSettings(answer_within=0.05),
        builder=BuilderSettings(
            channel_alias="http://127.0.0.1:1", base="scratch", repodata_refresh=0, workers=1, builds_per_minute=3
        ),
        storage=StorageSettings(data_directory=tmp_path),
    )
    app = compose(settings.http, lambda: open_parts(settings), JsonRequestLog(io.StringIO(), least=20))
    async with TestClient(TestServer(app)) as client:
        yield client


async def ask(client: Client, method: str, name: str) -> int:
    path = f"/v2/conda-store-dynamic/{name}/manifests/latest"
    async with client.request(method, path, headers=LEAVING) as answer:
        return answer.status


async def builds(client: Client) -> list[tuple[str, str, int]]:
    assert client.app is not None
    audit = client.app[PARTS].audit
    async with audit.writing():
        pass
    page = await audit.read_page(AuditFilter(action="image.build"), None, 1000)
    return [(each.entity, each.outcome, each.detail.get("more", 0)) for each in reversed(page.events)]


async def test_refused_builds_are_no_builds(client: Client) -> None:
    statuses = Counter(await asyncio.gather(*(ask(client, "HEAD", f"nope{number}") for number in range(40))))
    assert statuses == {200: 3, 429: 37}
    found = await builds(client)
    assert Counter((outcome, more) for _, outcome, more in found) == {
        ("allowed", 0): 3,
        ("denied", 0): 1,
        ("denied", 36): 1,
    }


async def test_asking_for_one_again_is_no_other_build(client: Client) -> None:
    for _ in range(10):
        await asyncio.gather(ask(client, "HEAD", "nope"), ask(client, "GET", "nope"))
    assert await builds(client) == [("conda-store-dynamic/nope", "allowed", 0)]
