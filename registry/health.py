"""/healthz: the process answers. /readyz: everything that it needs works, so it can get requests."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import orjson
from aiohttp import web

from registry.answers import UNSTORED_JSON
from registry.parts import PARTS, SETTINGS, STOPPING, Check


async def healthz(_request: web.Request) -> web.Response:
    return _json(200, {"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """503 while a check fails or the server is stopping; it names the check and the class of its error, no more."""
    if request.app[STOPPING].is_set():
        return _json(503, {"status": "stopping"})
    checks = request.app[PARTS].checks
    seconds = request.app[SETTINGS].check_seconds
    results = dict(zip(checks, await asyncio.gather(*(_run(each, seconds) for each in checks.values())), strict=True))
    works = all(result == "ok" for result in results.values())
    notes = {name: note() for name, note in request.app[PARTS].notes.items()}
    document = {"status": "ok" if works else "unavailable", "checks": results, **({"notes": notes} if notes else {})}
    return _json(200 if works else 503, document)


async def _run(check: Check, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            await check()
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its result
        return f"failed: {type(error).__name__}"
    return "ok"


def storage_check(directory: Path) -> Check:
    """A check that `directory` can be written to and has room for a file."""

    def write() -> None:
        path = directory / f".ready-{secrets.token_hex(8)}"
        try:
            path.write_bytes(b"\0" * 4096)
        finally:
            path.unlink(missing_ok=True)

    async def check() -> None:
        await asyncio.to_thread(write)

    return check


def _json(status: int, document: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), headers=UNSTORED_JSON)
