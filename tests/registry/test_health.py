"""Probes, and the order in which a server ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

from registry.health import storage_check
from registry.http.settings import HttpSettings
from tests.support.registry.serving import NUMPY, serving


async def hang() -> None:
    await asyncio.sleep(60)


async def test_ready_when_all_checks_pass(tmp_path: Path) -> None:
    async with serving(tmp_path, checks={"storage": storage_check(tmp_path)}) as site:
        async with site.request("GET", "/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        async with site.request("GET", "/readyz") as answer:
            assert answer.status == 200
            assert await answer.json() == {"status": "ok", "checks": {"database": "ok", "storage": "ok"}}
    assert not list(tmp_path.glob(".ready-*"))


async def test_not_ready_when_a_check_fails_or_hangs(tmp_path: Path) -> None:
    checks = {"storage": storage_check(tmp_path / "gone"), "solver": hang}
    async with serving(tmp_path, HttpSettings(check_seconds=0.1), checks) as site:
        async with site.request("GET", "/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {
                "status": "unavailable",
                "checks": {"database": "ok", "storage": "failed: FileNotFoundError", "solver": "failed: TimeoutError"},
            }
        async with site.request("GET", "/healthz") as answer:
            assert answer.status == 200


async def test_not_ready_when_stopping_but_still_answering(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await site.workshop.put(NUMPY)
        site.stop_accepting()
        async with site.request("GET", "/readyz") as answer:
            assert (answer.status, await answer.json()) == (503, {"status": "stopping"})
        async with site.request("GET", f"/v2/{NUMPY}/manifests/latest") as answer:
            assert answer.status == 200


async def test_running_request_is_finished_when_the_server_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpSettings(answer_within=5)) as site:

        async def get() -> int:
            async with site.request("GET", f"/v2/{NUMPY}/manifests/latest") as answer:
                await answer.read()
                return answer.status

        asking = asyncio.ensure_future(get())
        await site.started(NUMPY)
        ending = asyncio.ensure_future(site.runner.cleanup())
        await asyncio.sleep(0.1)
        assert not ending.done()
        await site.workshop.finish(NUMPY)
        assert await asking == 200
        await ending


async def test_request_that_takes_too_long_is_cut_when_the_server_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpSettings(answer_within=30, shutdown_seconds=0.2)) as site:
        asking = asyncio.ensure_future(site.client.get(f"{site.url}/v2/{NUMPY}/manifests/latest"))
        build = await site.started(NUMPY)
        await site.runner.cleanup()
        assert not build.ended.done()
        result = (await asyncio.gather(asking, return_exceptions=True))[0]
        assert isinstance(result, Exception)
