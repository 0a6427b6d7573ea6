"""The web interface of conda-store on a page of ours, and the paths below which its clients look for things."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from auth.permission import PUBLIC
from registry.dispatch import Route
from registry.http.settings import HttpSettings
from registry.routes import ROUTES
from registry.ui import InterfaceMissing
from tests.support.registry.serving import Site, serving

PREFIX = "/conda-store"
PATHS = ("/ui", "/ui/", "/ui/default/analysis", "/ui/default/new-environment", "/ui/a/b/c", "/ui/not-found")
FILES = ("/ui/runtime-config.js", "/ui/main.js", "/ui/main.css")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    directory = tmp_path / "dist"
    directory.mkdir()
    (directory / "main.js").write_text("document.title = 'runs'")
    (directory / "main.css").write_text("body { margin: 0 }")
    (directory / "main.js.map").write_text("not for browsers")
    return directory


async def get(site: Site, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, policy and text."""
    async with site.request("GET", path, headers=headers, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Content-Security-Policy", ""), await answer.text()


async def test_there_is_none_by_default(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as site:
        for path in (*PATHS, *FILES):
            assert (await get(site, path))[0] == 404, path


async def test_every_path_below_its_own_answers_the_page(tmp_path: Path, dist: Path) -> None:
    async with serving(tmp_path / "data", HttpSettings(ui_directory=dist)) as site:
        pages = {path: await get(site, path) for path in PATHS}
        assert {path: page[0] for path, page in pages.items()} == dict.fromkeys(PATHS, 200) | {"/ui/not-found": 404}
        assert len({page[2] for page in pages.values()}) == 1
        text = pages["/ui"][2]
        # the interface reads what it has to know before it starts
        assert 0 < text.index('src="/ui/runtime-config.js"') < text.index('src="/ui/main.js"')
        assert (await get(site, "/ui/main.js"))[2] == (dist / "main.js").read_text()
        assert (await get(site, "/ui/main.css"))[2] == (dist / "main.css").read_text()
        for path in ("/ui/main.js.map", "/ui/../main.js", "/ui/%2e%2e/main.js", "/ui/..%2fdist%2fmain.js.map"):
            assert (await get(site, path))[2] == text, "no other file is given out"


async def test_it_is_told_where_this_server_is(tmp_path: Path, dist: Path) -> None:
    settings = HttpSettings(ui_directory=dist, api_prefix=PREFIX, public_url="https://registry.example.org")
    async with serving(tmp_path / "data", settings) as site:
        for prefix in ("", PREFIX):
            text = (await get(site, f"{prefix}/ui/runtime-config.js"))[2]
            assert json.loads(text.removeprefix("var condaStoreConfig = ").removesuffix(";\n")) == {
                "REACT_APP_API_URL": f"https://registry.example.org{prefix}/",
                "REACT_APP_AUTH_METHOD": "cookie",
                "REACT_APP_LOGIN_PAGE_URL": f"https://registry.example.org{prefix}/login?next=",
                "REACT_APP_LOGOUT_PAGE_URL": f"https://registry.example.org{prefix}/logout?next=/",
                "REACT_APP_STYLE_TYPE": "green-accent",
                "REACT_APP_SHOW_AUTH_BUTTON": "true",
                "REACT_APP_ROUTER_TYPE": "browser",
                "REACT_APP_URL_BASENAME": f"{prefix}/ui",
            }
            assert f'src="{prefix}/ui/main.js"' in (await get(site, f"{prefix}/ui/default/analysis"))[2]


async def test_a_host_that_a_client_makes_up_stays_text(tmp_path: Path, dist: Path) -> None:
    async with serving(tmp_path / "data", HttpSettings(ui_directory=dist)) as site:
        text = (await get(site, "/ui/runtime-config.js", Host='x";alert(1)//'))[2]
        assert "alert" not in text


async def test_styles_within_a_page_are_allowed_there_and_only_there(tmp_path: Path, dist: Path) -> None:
    async with serving(tmp_path / "data", HttpSettings(ui_directory=dist)) as site:
        for row in ROUTES:
            if not isinstance(row, Route) or row.permission is not PUBLIC or "GET" not in row.methods:
                continue
            _, policy, _ = await get(site, row.path.replace("{path:.*}", "default/analysis"))
            parts = dict(part.strip().partition(" ")[::2] for part in policy.split(";") if part)
            assert parts.get("default-src", "'none'") == "'none'", row.path
            # fonts and anything else of other hosts have no directive of their own
            assert not any("http" in sources for sources in parts.values()), row.path
            if "unsafe" in policy:
                assert row.path in ("/ui/", "/ui/{path:.*}")
                assert [name for name, sources in parts.items() if "unsafe" in sources] == ["style-src"]
                assert parts["script-src"] == "'self'"
                assert parts["frame-ancestors"] == "'none'"


async def test_the_api_and_the_sign_in_are_below_a_prefix_as_well(tmp_path: Path) -> None:
    paths = ("/api/v1/permission/", "/api/v1/permission", "/api/openapi.json")
    async with serving(tmp_path / "data", HttpSettings(api_prefix=PREFIX)) as site:
        for path in paths:
            assert (await get(site, path))[2] == (await get(site, PREFIX + path))[2]
            assert (await get(site, PREFIX + path))[0] == 200
        for path in ("/v2/", "/", "/healthz", "/token", "/files/a/b/c"):
            assert (await get(site, PREFIX + path))[0] == 404, path
        assert (await get(site, "/v2/"))[0] == 200
    async with serving(tmp_path / "other") as site:
        assert (await get(site, f"{PREFIX}/api/v1/permission/"))[0] == 404


async def test_no_script_has_a_browser_ask_for_a_password(tmp_path: Path) -> None:
    """It would wait for the answer; a person with a browser signs in at /login."""

    async def challenges(site: Site, **headers: str) -> list[str]:
        async with site.request("GET", "/api/v1/token/", headers=headers) as answer:
            assert answer.status == 401
            return [each.partition(" ")[0] for each in answer.headers.getall("WWW-Authenticate")]

    async with serving(tmp_path / "data") as site:
        assert await challenges(site) == ["Bearer", "Basic"]
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            assert await challenges(site, **headers, **{"Sec-Fetch-Mode": "cors"}) == ["Bearer"]
            assert await challenges(site, **headers, **{"Sec-Fetch-Mode": "navigate"}) == ["Bearer", "Basic"]


@pytest.mark.parametrize("prefix", ["/v2", "/api", "/ui/x", "/", "conda-store", "/conda-store/", "/a//b", "/{x}", "/é"])
def test_a_prefix_is_a_path_that_is_free(prefix: str) -> None:
    with pytest.raises(ValidationError, match="must be a path such as /conda-store"):
        HttpSettings(api_prefix=prefix)


async def test_a_folder_without_the_interface_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterfaceMissing, match=r"has no main\.js; install the npm package"):
        async with serving(tmp_path / "data", HttpSettings(ui_directory=tmp_path)):
            pytest.fail("it has started")
