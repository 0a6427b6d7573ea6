"""GET /: what to pull, by the address that the client came by."""

from __future__ import annotations

import datetime
from importlib import metadata
from pathlib import Path

import pytest

from builder.names.image_name import parse
from builder.settings import BuilderSettings
from registry.http.settings import HttpSettings
from tests.support.registry.serving import ROOT, serving


async def test_it_says_what_to_pull_from_where(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        async with site.request("GET", "/") as answer:
            assert (answer.status, answer.content_type, answer.charset) == (200, "text/plain", "utf-8")
            assert answer.headers["Cache-Control"] == "no-store"
            text = await answer.text()
        address = site.url.removeprefix("http://")
        pulls = [line.split()[-1] for line in text.splitlines() if "docker pull" in line]
        assert pulls
        for image in pulls:
            repository = image.removeprefix(f"{address}/")
            assert repository.startswith(f"{ROOT}/")
            # what it proposes is a name
            parse(repository, "latest", BuilderSettings(root=ROOT, workers=1), today=datetime.date(2026, 5, 1))
        for path in ("/v2/", "/healthz", "/readyz"):
            assert f"{site.url}{path}" in text
            async with site.request("GET", path) as answer:
                assert answer.status == 200
        assert metadata.version("condery") not in text
        async with site.request("HEAD", "/") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with site.request("POST", "/") as answer:
            assert answer.status == 405


@pytest.mark.parametrize("host", ["<script>", "a b", "x" * 300, "a/../b"])
async def test_a_host_that_is_none_is_not_repeated(tmp_path: Path, host: str) -> None:
    async with serving(tmp_path) as site:
        async with site.request("GET", "/", headers={"Host": host}, skip_auto_headers=["Host"]) as answer:
            assert answer.status == 200
            text = await answer.text()
        assert host not in text
        assert f"docker pull HOST:PORT/{ROOT}/python/numpy" in text


async def test_the_public_address_goes_before_what_a_request_says(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpSettings(public_url="https://images.example.org")) as site:
        async with site.request("GET", "/") as answer:
            text = await answer.text()
        assert f"docker pull images.example.org/{ROOT}/python/numpy" in text
        assert site.url not in text
