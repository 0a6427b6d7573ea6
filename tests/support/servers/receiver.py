"""A receiver of webhooks on a real socket: it answers as a test says, and checks every signature."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MEDIA_TYPE = "application/vnd.docker.distribution.events.v2+json"
CLOCKS_DIFFER = 300
PATIENCE = 60


@dataclass
class Receiver:
    """Answers posts with `statuses`, one after the other, then with 200. While it hangs it does not answer at all."""

    secret: bytes | None = None
    url: str = ""
    statuses: deque[int] = field(default_factory=deque)
    refused: frozenset[str] = frozenset()
    """Digests whose events are never accepted."""
    hangs: bool = False
    posts: list[list[dict[str, Any]]] = field(default_factory=list)
    """The events of each post, accepted or not."""
    taken: list[dict[str, Any]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._check(request, body)
        events = json.loads(body)["events"]
        status = self.statuses.popleft() if self.statuses else 200
        if any(event["target"].get("digest") in self.refused for event in events):
            status = 422
        async with self._changed:
            self.posts.append(events)
            if status == 200 and not self.hangs:
                self.taken += events
            self._changed.notify_all()
        if self.hangs:
            await asyncio.sleep(3600)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    def _check(self, request: web.Request, body: bytes) -> None:
        assert request.path == "/hook/hunter2"
        assert request.headers["Content-Type"] == MEDIA_TYPE
        if self.secret is None:
            assert "X-Condery-Signature-256" not in request.headers
            return
        sent = request.headers["X-Condery-Timestamp"]
        assert abs(int(sent) - time.time()) < CLOCKS_DIFFER
        mac = hmac.new(self.secret, f"{sent}.".encode() + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(request.headers["X-Condery-Signature-256"], f"sha256={mac}")

    async def wait(self, count: int) -> list[dict[str, Any]]:
        """Wait for the first `count` accepted events."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.taken) >= count)
        return self.taken[:count]

    async def wait_for_posts(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.posts) >= count)


@contextlib.asynccontextmanager
async def receiving(secret: bytes | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(secret)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/hook/hunter2", receiver.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook/hunter2"
    try:
        yield receiver
    finally:
        await runner.cleanup()
