"""More at once than there is room for: whoever cannot be served is told to come again, and nobody gets a 500."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from storage.database.engine import Database, migrate, sqlite_url
from storage.errors import StorageBusy
from tests.support.server import StartServer

UPLOADS = 3000


async def test_a_database_whose_connections_are_all_taken_says_that_it_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlite_url(tmp_path / "db")
    migrate(url)
    database = Database.open(url)
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.1)
    try:

        async def hold() -> None:
            async with database.reading():
                await asyncio.sleep(1)

        held = [asyncio.create_task(hold()) for _ in range(15)]
        await asyncio.sleep(0.3)
        for transaction in (database.reading, database.writing):
            with pytest.raises(StorageBusy):
                async with transaction():
                    pass
        await asyncio.gather(*held)
        await database.ping()
    finally:
        await database.close()


async def test_thousands_of_uploads_at_once(start_server: StartServer) -> None:
    server = start_server("--base", "scratch", "--log-format", "json")
    statuses: Counter[int | str] = Counter()
    later: set[str | None] = set()

    async def push(client: aiohttp.ClientSession, number: int) -> None:
        content = b"%d" % number
        digest = hashlib.sha256(content).hexdigest()
        try:
            async with client.post(f"{server.url}/v2/a/blobs/uploads/?digest=sha256:{digest}", data=content) as answer:
                statuses[answer.status] += 1
                if answer.status == 503:
                    later.add(answer.headers.get("Retry-After"))
        except aiohttp.ClientConnectionError as error:
            statuses[type(error).__name__] += 1

    timeout = aiohttp.ClientTimeout(total=200)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
        await asyncio.gather(*(push(client, number) for number in range(UPLOADS)))
        assert statuses[201] > 0
        assert not [status for status in statuses if isinstance(status, int) and status not in (201, 503)], statuses
        assert later <= {"5"}
        async with client.get(f"{server.url}/v2/") as answer:
            assert answer.status == 200
