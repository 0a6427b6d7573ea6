"""Web pages of allowed origins may read, and do nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from registry.http.settings import HttpSettings
from tests.support.registry.serving import NUMPY, Site, serving

PAGE = "https://ui.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, HttpSettings(cors_origins=(PAGE, "http://localhost:3000"))) as site:
        await site.workshop.put(NUMPY)
        yield site


READS = [f"/v2/{NUMPY}/manifests/latest", "/v2/", "/v2/_catalog", "/v2/nothing/tags/list", "/healthz", "/nowhere"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", READS)
async def test_an_allowed_page_may_read(site: Site, path: str, method: str) -> None:
    for _ in range(2):
        async with site.request(method, path, headers={"Origin": PAGE}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert "Docker-Content-Digest" in response.headers["Access-Control-Expose-Headers"]
            assert "Access-Control-Allow-Credentials" not in response.headers
            assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://ui.example.org", f"{PAGE}.evil.example", f"{PAGE}:444", "null", "*", PAGE.upper()],
)
async def test_another_page_may_not(site: Site, origin: str) -> None:
    for method, headers in (("GET", {}), ("OPTIONS", PREFLIGHT)):
        async with site.request(method, READS[0], headers={"Origin": origin, **headers}) as response:
            assert not [name for name in response.headers if name.startswith("Access-Control-")]
            assert response.status == (200 if method == "GET" else 405)


@pytest.mark.parametrize("path", READS[:4])
async def test_a_browser_that_asks_first_is_told(site: Site, path: str) -> None:
    async with site.request("OPTIONS", path, headers={"Origin": PAGE, **PREFLIGHT}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]


async def test_no_page_reads_the_answer_to_a_write(site: Site) -> None:
    async with site.request("POST", "/v2/a/blobs/uploads/", headers={"Origin": PAGE}) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_without_the_setting_nothing_changes(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await site.workshop.put(NUMPY)
        async with site.request("GET", READS[0], headers={"Origin": PAGE}) as response:
            assert not {"Access-Control-Allow-Origin", "Vary"} & set(response.headers)
        async with site.request("OPTIONS", READS[0], headers={"Origin": PAGE, **PREFLIGHT}) as response:
            assert response.status == 405


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "ui.example.org",
        f"{PAGE}/",
        f"{PAGE}/path",
        "https://*.example.org",
        f"{PAGE}:443",
        "HTTPS://UI.ORG",
    ],
)
def test_settings_take_exact_origins_alone(origin: str) -> None:
    with pytest.raises(ValidationError, match="not an origin as browsers send it"):
        HttpSettings(cors_origins=(origin,))


@pytest.mark.parametrize("origin", [PAGE, "https://evil.example", "null"])
async def test_no_page_writes(site: Site, origin: str) -> None:
    """A browser sends such a request without asking first."""
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    for method, path in (
        ("POST", "/v2/a/blobs/uploads/"),
        ("POST", f"/v2/a/blobs/uploads/?digest=sha256:{'0' * 64}"),
        ("PUT", "/v2/a/manifests/latest"),
        ("DELETE", "/v2/a/manifests/latest"),
    ):
        async with site.request(method, path, headers=headers, data=b"hello") as response:
            assert response.status == 403
            assert "web pages may read" in await response.text()
