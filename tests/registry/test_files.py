"""Files beside the manifests, for people with curl."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.artifacts.artifact import Artifact
from builder.errors import Unsatisfiable
from registry.http.settings import HttpSettings
from registry.kinds.sending import content_type, disposition
from tests.support.registry.serving import DOCUMENT, NUMPY, ROOT, Site, serving

PATH = f"/files/{NUMPY}/latest/conda-lock.yml"
KEY = f"{NUMPY}:conda-lock.yml"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, HttpSettings(answer_within=0.3)) as running:
        yield running


async def artifact(site: Site) -> Artifact:
    return Artifact(await site.workshop.put_blob(DOCUMENT), len(DOCUMENT), "application/yaml", "conda-lock.yml")


async def finish(site: Site) -> Artifact:
    while KEY not in site.workshop.artifacts:
        await asyncio.sleep(0.005)
    made = await artifact(site)
    site.workshop.artifacts[KEY].ended.set_result(made)
    return made


async def test_file_is_made_and_sent_with_its_name(site: Site) -> None:
    finishing = asyncio.ensure_future(finish(site))
    for method in ("GET", "HEAD"):
        async with site.request(method, PATH) as answer:
            assert answer.status == 200
            assert await answer.read() == (DOCUMENT if method == "GET" else b"")
            assert answer.headers["Content-Type"] == "application/yaml"
            assert answer.headers["Content-Disposition"] == 'attachment; filename="conda-lock.yml"'
            assert answer.headers["ETag"] == f'"{(await finishing).digest}"'
            assert answer.headers["Content-Length"] == str(len(DOCUMENT))
            assert answer.headers["Cache-Control"] == "no-cache"
    assert len(site.workshop.artifacts) == 1


async def test_part_and_condition(site: Site) -> None:
    finishing = asyncio.ensure_future(finish(site))
    async with site.request("GET", PATH, headers={"Range": "bytes=8-10"}) as answer:
        assert (answer.status, await answer.read()) == (206, DOCUMENT[8:11])
    etag = f'"{(await finishing).digest}"'
    async with site.request("GET", PATH, headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")


async def test_file_that_takes_long_is_to_be_asked_for_again(site: Site) -> None:
    async with site.request("GET", PATH) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        document = await answer.json()
    assert document["code"] == "BUILDING"
    assert "conda-lock.yml is still being built (build build0)" in document["message"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_waits_until_it_is_there(site: Site, tmp_path: Path) -> None:
    command = ["curl", "--silent", "--show-error", "--fail", "--retry", "20", "--remote-name", "--remote-header-name"]
    curl = await asyncio.create_subprocess_exec(*command, site.url + PATH, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    # the first attempt has to be told to come back
    while '"status":503' not in site.log.getvalue():
        await asyncio.sleep(0.02)
    await finish(site)
    _, errors = await curl.communicate()
    assert curl.returncode == 0, errors
    assert (tmp_path / "conda-lock.yml").read_bytes() == DOCUMENT


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/files/{NUMPY}/latest/other.txt", 404, "NOT_FOUND"),
        ("GET", f"/files/{NUMPY}/latest/", 404, "NOT_FOUND"),
        ("GET", f"/files/{NUMPY}/la%2Ftest/conda-lock.yml", 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/files/{ROOT}/../etc/latest/conda-lock.yml", 400, "NAME_INVALID"),
        ("GET", f"/files/{ROOT}//numpy/latest/conda-lock.yml", 400, "NAME_INVALID"),
        ("GET", "/files/else/where/latest/conda-lock.yml", 404, "NAME_UNKNOWN"),
        ("GET", "/files/", 404, "NOT_FOUND"),
        ("GET", "/files/a/b", 404, "NOT_FOUND"),
        ("GET", "/files///x/y", 400, "NAME_INVALID"),
        ("PUT", PATH, 405, "UNSUPPORTED"),
    ],
)
async def test_bad_requests(site: Site, method: str, path: str, status: int, code: str) -> None:
    async with site.request(method, path) as answer:
        document = json.loads(await answer.read())
        assert (answer.status, document["code"]) == (status, code)
        assert document["status"] == "error"
        assert document["message"]


@pytest.mark.parametrize("repository", ["team/app", "unknown", "mirror/docker.io/library/alpine"])
async def test_only_images_on_demand_have_files(site: Site, repository: str) -> None:
    """Told alike of what is here and what is not."""
    await site.workshop.put_blob(b"pushed", "team/app")
    async with site.request("GET", f"/files/{repository}/latest/explicit.txt") as answer:
        assert answer.status == 404
        assert (await answer.json())["message"] == (
            f"'{repository}' has no files: files exist for environments, as in "
            f"/files/NAMESPACE/ENVIRONMENT/latest/explicit.txt, and for on-demand images, as in "
            f"/files/{ROOT}/python/numpy/latest/explicit.txt"
        )
    async with site.request("GET", f"/files/{repository}/latest/{'x' * 3000}") as answer:
        assert (await answer.json())["message"].endswith("/latest/conda-lock.yml")


async def test_failed_build_is_told(site: Site) -> None:
    async def fail() -> None:
        while KEY not in site.workshop.artifacts:
            await asyncio.sleep(0.005)
        site.workshop.artifacts[KEY].ended.set_exception(Unsatisfiable("linux-64", "a needs b"))

    failing = asyncio.ensure_future(fail())
    async with site.request("GET", PATH) as answer:
        assert answer.status == 404
        assert "a needs b" in (await answer.json())["message"]
    await failing


def test_headers_of_names_and_types() -> None:
    assert content_type("text/plain") == "text/plain; charset=utf-8"
    assert content_type("text/plain; charset=ascii") == "text/plain; charset=ascii"
    assert content_type("application/gzip") == "application/gzip"
    assert disposition('a"\r\nb.txt') == "attachment; filename=\"a___b.txt\"; filename*=UTF-8''a%22%0D%0Ab.txt"
