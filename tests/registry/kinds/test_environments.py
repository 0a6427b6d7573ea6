"""Repositories of named environments, over the whole application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.reading import read_input
from builder.environments.life import NamedEnvironments
from builder.settings import BuilderSettings
from registry.app import create_app
from registry.parts import PARTS
from registry.settings.model import Settings
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from storage.settings import StorageSettings
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel


@dataclass
class Place:
    named: NamedEnvironments
    client: aiohttp.ClientSession
    settings: InputSettings

    async def ask(self, *specs: str, name: str = "Science") -> EnvironmentBuild:
        text = json.dumps({"name": name, "dependencies": list(specs)})
        written = read_input(text.encode(), self.settings)
        return await self.named.create("team", name, written, by="ann")

    async def make(self, *specs: str, name: str = "Science") -> EnvironmentBuild:
        build = await self.ask(*specs, name=name)
        async with asyncio.timeout(60):
            while not (found := await self.named.store.builds.find(build.id)).is_finished:
                await asyncio.sleep(0.02)
        return found

    async def get(self, tag: str, accept: str = OCI_INDEX, name: str = "team/science") -> tuple[int, Any, Any]:
        async with self.client.get(f"/v2/{name}/manifests/{tag}", headers={"Accept": accept}) as answer:
            return answer.status, answer.headers, await answer.json(content_type=None)


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, *packages: str) -> AsyncIterator[Place]:
    channel = await make_channel(tmp_path / "channel", [Package(each) for each in packages])
    builder = BuilderSettings(channels=(channel,), base="scratch", repodata_refresh=0, workers=1)
    app = create_app(Settings(builder=builder, storage=StorageSettings(data_directory=tmp_path / "data")))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        named = app[PARTS].environments
        assert named is not None
        async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
            yield Place(named, client, InputSettings.of(builder))
    finally:
        await runner.cleanup()


async def test_what_each_tag_means(tmp_path: Path) -> None:
    async with serving(tmp_path, "one", "two") as place:
        first = await place.make("one")
        second = await place.make("two")
        status, headers, index = await place.get("latest")
        assert (status, index["mediaType"]) == (200, OCI_INDEX)
        newest = headers["Docker-Content-Digest"]
        for tag in (str(second.id), f"lock-{(second.lock_key or '')[:12]}", f"lock-{second.lock_key}"):
            assert (await place.get(tag))[1]["Docker-Content-Digest"] == newest
        oldest = (await place.get(str(first.id)))[1]["Docker-Content-Digest"]
        assert oldest != newest
        assert (await place.get("2999-01-01"))[1]["Docker-Content-Digest"] == newest
        assert (await place.get("2001-01-01"))[0] == 404
        # a client that reads no index gets what it reads
        assert (await place.get("latest", DOCKER_MANIFEST))[1]["Content-Type"] == DOCKER_MANIFEST
        async with place.client.get("/v2/team/science/tags/list") as answer:
            tags = (await answer.json())["tags"]
        assert {"latest", str(first.id), str(second.id)} <= set(tags)
        async with place.client.get("/v2/_catalog") as answer:
            assert "team/science" in (await answer.json())["repositories"]
        await place.named.store.environments.change("team", "Science", build_id=first.id)
        assert (await place.get("latest"))[1]["Docker-Content-Digest"] == oldest


async def test_the_last_good_build_answers_with_a_warning(tmp_path: Path) -> None:
    async with serving(tmp_path, "one") as place:
        bad = await place.make("tow", name="new")
        status, _, document = await place.get("latest", name="team/new")
        assert status == 404
        assert "no package tow" in document["errors"][0]["message"]
        assert bad.status == BuildStatus.FAILED
        good = await place.make("one", name="new")
        assert "Warning" not in (await place.get("latest", name="team/new"))[1]
        failed = await place.make("tow", name="new")
        status, headers, _ = await place.get("latest", name="team/new")
        assert status == 200
        assert f"this is build {good.id}; build {failed.id} failed: no package tow" in headers["Warning"]


async def test_a_pull_waits_for_a_running_build(tmp_path: Path) -> None:
    async with serving(tmp_path, "one") as place:
        await place.ask("one")
        status, _headers, index = await place.get("latest")
        assert (status, index["mediaType"]) == (200, OCI_INDEX)


async def test_a_push_is_told_what_to_do_instead(tmp_path: Path) -> None:
    async with serving(tmp_path, "one") as place:
        await place.make("one")
        async with place.client.put(
            "/v2/team/science/manifests/v1", data=b"{}", headers={"User-Agent": "docker/27.0.1"}
        ) as answer:
            assert answer.status == 403
            assert "condery env update team/science" in (await answer.json())["errors"][0]["message"]
        async with place.client.delete("/v2/team/science/manifests/latest") as answer:
            assert answer.status == 403


async def test_files_of_its_builds(tmp_path: Path) -> None:
    async with serving(tmp_path, "one") as place:
        await place.make("one")
        for name in ("conda-lock.yml", "environment.yaml", "explicit.txt", "pixi.lock", "report.json"):
            async with place.client.get(f"/files/team/science/latest/{name}") as answer:
                assert answer.status == 200, (name, await answer.text())
                saved = answer.headers["Content-Disposition"]
                assert re.fullmatch(rf'attachment; filename="science-[0-9a-f]{{12}}(-linux-64)?\.{name}"', saved), saved
        async with place.client.get("/files/team/science/7/explicit.txt") as answer:
            assert answer.status == 404
            assert "team/science is an environment and has no build '7'" in (await answer.json())["message"]
        async with place.client.get("/files/team/sciense/latest/pixi.lock") as answer:
            assert answer.status == 404
            assert (await answer.json())["message"].endswith("; did you mean team/science?")
        async with place.client.get("/api/v1/build/1/pixi.lock/") as answer:
            assert 'filename="Science-' in answer.headers["Content-Disposition"]
        for name, tag, message in (
            (
                "team/science",
                "7",
                "team/science is an environment and has no build '7'; its tags are latest, a build's",
            ),
            ("team/sciense", "latest", "there is no repository team/sciense here; did you mean team/science?"),
            ("team/other", "latest", "there is no repository team/other here"),
        ):
            status, _, document = await place.get(tag, name=name)
            assert status == 404
            assert document["errors"][0]["message"].startswith(message)


async def test_files_refer_to_the_images_of_its_builds(tmp_path: Path) -> None:
    async with serving(tmp_path, "one", "two") as place:
        builds = [await place.make("one"), await place.make("two")]
        contents = []
        for build in builds:
            digest = (await place.get(str(build.id)))[1]["Docker-Content-Digest"]
            async with place.client.get(f"/v2/team/science/referrers/{digest}") as answer:
                listed = (await answer.json())["manifests"]
            types = {each["artifactType"]: each["digest"] for each in listed}
            assert {"application/vnd.pixi.lock.v1+yaml", "application/spdx+json"} <= types.keys()
            _, _, artifact = await place.get(types["application/vnd.conda.explicit.v1"], OCI_MANIFEST)
            assert artifact["subject"]["digest"] == digest
            async with place.client.get(f"/v2/team/science/blobs/{artifact['layers'][0]['digest']}") as answer:
                contents.append(await answer.text())
            async with place.client.get(f"/files/team/science/{build.id}/explicit.txt") as answer:
                assert await answer.text() == contents[-1]
        assert contents[0] != contents[1]
        # in this repository, and not where the same image is for everybody
        async with place.client.get(
            f"/v2/conda-store-dynamic/one/manifests/{types['application/spdx+json']}"
        ) as answer:
            assert answer.status == 404


async def test_it_is_gone_when_it_is_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, "one") as place:
        await place.make("one")
        assert (await place.get("latest"))[0] == 200
        await place.named.delete("team", "Science", by="ann")
        assert (await place.get("latest"))[0] == 404
        again = await place.make("one")
        assert (await place.get(str(again.id)))[0] == 200
