"""GET channel/ and package/ as clients of conda-store send them, and who may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from auth.settings import AccessSettings
from builder.search.search import MOST_OPEN
from registry.api.packages import PARAMETERS
from tests.support.builder.searching import open_search, record, write_repodata
from tests.support.registry.people import BY, People, bearer
from tests.support.registry.serving import Site, serving
from tests.support.servers.channel_server import ChannelServer

NOTHING = AccessSettings(anonymous_bindings=("none",), signed_in_bindings=("none",))
VERSIONS = [record("numpy", f"1.{number}") for number in range(120)]


@pytest.fixture
async def channels(tmp_path: Path) -> AsyncIterator[ChannelServer]:
    write_repodata(tmp_path / "channels" / "main", *VERSIONS, record("numba", "0.60"), record("zipp", build="py_0"))
    write_repodata(tmp_path / "channels" / "extra", record("numpy", "2.0"))
    async with ChannelServer(tmp_path / "channels") as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, channels: ChannelServer) -> AsyncIterator[Site]:
    async with (
        open_search(tmp_path / "search", channels.url, "main", "extra") as packages,
        serving(tmp_path / "data", packages=packages) as running,
    ):
        yield running


async def get(site: Site, query: str, status: int = 200, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    async with site.request("GET", f"/api/v1/{query}", headers=headers or {}) as response:
        body = await response.read()
        assert response.status == status, body
        assert response.content_type == "application/json"
        document: dict[str, Any] = json.loads(body)
        return document


def shown(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["channel"]["name"], each["name"], each["version"]) for each in answer["data"]]


async def test_what_conda_stores_ui_asks_for(site: Site) -> None:
    """In the words of @conda-store/conda-store-ui 2024.11.1; it says no size where it asks for versions."""
    names = await get(site, "package/?search=num&page=1&size=100&distinct_on=name")
    assert names["status"] == "ok"
    assert (names["page"], names["size"], names["count"]) == (1, 100, 2)
    assert shown(names) == [("extra", "numpy", "2.0"), ("main", "numba", "0.60")]
    versions = await get(site, "package/?search=numpy&exact=true&distinct_on=version&page=1&order=desc&sort_by=version")
    assert (versions["page"], versions["size"], versions["count"]) == (1, 10, 121)
    assert [each["version"] for each in versions["data"]] == ["2.0", *(f"1.{number}" for number in range(119, 110, -1))]
    everything = await get(site, "package/?search=&page=1&size=100")
    assert everything["count"] == 123
    assert len(everything["data"]) == 100


async def test_a_package_has_the_fields_of_conda_stores_and_its_own(site: Site) -> None:
    answer = await get(site, "package/?search=zipp&exact=true")
    (package,) = answer["data"]
    update = package["channel"].pop("last_update")
    assert update.endswith("+00:00")
    assert isinstance(package.pop("id"), int)
    assert isinstance(package["channel"].pop("id"), int)
    assert package == {
        "channel": {"name": "main"},
        "name": "zipp",
        "version": "1.0",
        "build": "py_0",
        "build_number": 0,
        "subdir": "linux-64",
        "license": "MIT",
        "summary": "",
        "size": 1000,
        "timestamp": 1_700_000_000_000,
        "sha256": record("zipp", build="py_0")["sha256"],
        "md5": "0" * 32,
        "depends": 0,
    }


async def test_channels_are_listed_with_when_they_were_read(site: Site) -> None:
    before = await get(site, "channel/")
    assert [(each["name"], each["last_update"]) for each in before["data"]] == [("extra", None), ("main", None)]
    packages = await get(site, "package/?search=numba")
    after = await get(site, "channel")
    assert [each["id"] for each in after["data"]] == [each["id"] for each in before["data"]]
    assert packages["data"][0]["channel"] == after["data"][1]
    assert (await get(site, "channel/?sort_by=name&order=desc&size=1&page=1"))["data"] == after["data"][1:]


async def test_without_a_page_all_packages_come(site: Site) -> None:
    answer = await get(site, "package/")
    assert (answer["page"], answer["size"], answer["count"]) == (1, 123, 123)
    assert len(answer["data"]) == 123
    assert {each["name"] for each in answer["data"]} == {"numpy", "numba", "zipp"}
    versions = await get(site, "package?search=numpy&sort_by=version&order=desc/")
    assert [each["version"] for each in versions["data"][:2]] == ["2.0", "1.119"]
    async with site.request("HEAD", "/api/v1/package/") as response:
        assert response.status == 200
        assert await response.read() == b""
    empty = await get(site, "package/?search=nothing")
    assert (empty["size"], empty["count"], empty["data"]) == (1, 0, [])


async def test_one_slash_at_the_end_of_a_query_belongs_to_no_value(site: Site) -> None:
    assert (await get(site, "package?page=1&size=5&search=numba/"))["count"] == 1
    assert (await get(site, "package?search=numba&page=1&size=5/"))["size"] == 5
    assert (await get(site, "package?search=numba&distinct_on=name&distinct_on=version/"))["count"] == 1
    assert (await get(site, "package?search=numba//"))["count"] == 0
    assert (await get(site, "package?channel=extra/"))["count"] == 1


async def test_channels_are_chosen_by_name_and_by_address(site: Site, channels: ChannelServer) -> None:
    for channel in ("extra", f"{channels.url}/extra", f"{channels.url}/extra/"):
        assert shown(await get(site, f"package/?channel={channel}")) == [("extra", "numpy", "2.0")]
    both = await get(site, "package/?channel=extra&channel=main&distinct_on=channel")
    assert [channel for channel, _, _ in shown(both)] == ["extra", "main"]


NONSENSE = (
    ("sort_by=size", "expected one of channel, name, version"),
    ("order=up", "expected asc or desc"),
    ("distinct_on=build", "expected one of channel, name, version"),
    ("exact=perhaps", "expected true or false"),
    ("page=0", "expected a whole number from 1"),
    ("page=-1", "expected a whole number from 1"),
    ("page=1e3", "expected a whole number from 1"),
    ("size=99999999999999999999", "expected a whole number from 1"),
    ("channel=others", "expected one of extra, main"),
    ("channel=https://example.org/main", "expected one of extra, main"),
    ("channel=https://user:password@example.org/main", "expected one of extra, main"),
    ("channel=ftp://example.org/main", "expected one of extra, main"),
    ("search=a&search=b", "this parameter is there twice"),
    ("summary=x", "there is no such parameter"),
    (f"search={'x' * 201}", "expected at most 200 printable characters"),
    ("search=a%00b", "expected at most 200 printable characters"),
    ("build=%1b%5b2J", "expected at most 200 printable characters"),
    ("&".join(["channel=main"] * 21), "expected at most 20"),
)
"""Queries, and what they should be told."""


async def test_what_makes_no_sense_is_refused_with_what_would(site: Site) -> None:
    for query, reason in NONSENSE:
        answer = await get(site, f"package/?{query}", 400)
        assert answer["status"] == "error"
        assert reason in answer["message"], answer
        assert query.partition("=")[0] in answer["message"]
        assert "password" not in answer["message"]


async def test_pages_have_at_most_a_hundred_packages(site: Site) -> None:
    answer = await get(site, "package/?size=100000")
    assert (answer["size"], len(answer["data"])) == (100, 100)
    assert (await get(site, "package/?page=999999999&size=100"))["data"] == []


async def test_what_cannot_be_searched_is_told_beside_what_can(site: Site, channels: ChannelServer) -> None:
    channels.fail("extra/linux-64/repodata.json", times=100, status=500)
    answer = await get(site, "package/?search=numba")
    assert shown(answer) == [("main", "numba", "0.60")]
    assert answer["message"].startswith("extra: unreachable")
    async with site.request("GET", "/api/v1/package/?channel=extra") as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "extra: unreachable" in (await response.json())["message"]


async def test_clients_that_leave_give_their_places_back(site: Site, channels: ChannelServer) -> None:
    """Each takes the beginning of more than a socket holds, and goes away."""
    many = [record("big", f"1.{number}", license="x" * 290) for number in range(30_000)]
    write_repodata(channels.directory / "extra", *many)
    assert (await get(site, "package/?channel=extra&size=1"))["count"] == len(many)
    for _ in range(MOST_OPEN + 2):
        async with site.request("GET", "/api/v1/package/?channel=extra") as response:
            assert len(await response.content.readexactly(1000)) == 1000
            response.close()
    async with asyncio.timeout(60):
        assert (await get(site, "package/?channel=extra&page=1&size=1"))["count"] == len(many)
        async with site.request("GET", "/api/v1/package/?channel=extra") as response:
            assert len((await response.json())["data"]) == len(many)


@pytest.mark.parametrize("path", ["channel/", "package/?search=numba"])
async def test_whoever_may_use_nothing_learns_nothing_of_channels(
    tmp_path: Path, channels: ChannelServer, path: str
) -> None:
    """conda-store listed channels and packages to anybody."""
    async with (
        open_search(tmp_path / "search", channels.url, "main") as packages,
        serving(tmp_path / "data", sign_in=NOTHING, packages=packages) as site,
    ):
        people = People(site)
        reader, pusher = await people.add("reader", "team/*=viewer"), await people.add("pusher", "team/app=editor")
        robot = await people.load((await people.accounts.add_robot("ci", by=BY)).id)
        nothing = bearer((await site.access.tokens.access.make(robot, "the test", None, by=BY)).text)
        answer = await get(site, path, 401)
        assert "sign in" in answer["message"]
        assert "main" not in str(answer)
        assert "WWW-Authenticate" in (await _headers(site, path))
        answer = await get(site, path, 403, nothing)
        assert "environment::read" in answer["message"]
        assert channels.requests == []
        for person in (reader, pusher):
            assert (await get(site, path, headers=person.headers))["count"] == 1
    async with (  # anybody may pull here
        open_search(tmp_path / "search", channels.url, "main") as packages,
        serving(tmp_path / "open", sign_in=AccessSettings(), packages=packages) as site,
    ):
        assert (await get(site, path))["count"] == 1


async def _headers(site: Site, path: str) -> dict[str, str]:
    async with site.request("GET", f"/api/v1/{path}") as response:
        return dict(response.headers)


async def test_every_parameter_is_known_to_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs/rest-api.md").read_text()
    assert [each for each in PARAMETERS if f"`{each}`" not in page] == []
