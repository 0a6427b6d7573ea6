"""Indexes that are slow, lie, redirect to internal addresses or send too much: a clear error, and nothing is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from packaging.utils import InvalidWheelFilename

from builder.channels.index_policy import IndexPolicy
from builder.channels.logins import NO_LOGINS
from builder.errors import (
    BuilderError,
    IndexRefused,
    IndexUnavailable,
    PackageRefused,
    RequirementRefused,
    SolveLimit,
)
from builder.locks.lock import LockedPackage
from builder.names.wheel_name import parse_wheel_name
from builder.pypi import client, gateway
from builder.pypi.core_metadata import parse_metadata
from builder.pypi.view import View
from tests.support.pypi.index_server import IndexServer, Odd, Wheel, make_wheel, stall
from tests.support.pypi.resolving import Resolving, names, resolving

JSON = "application/vnd.pypi.simple.v1+json"


ENDS_OF_TIME = ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
_TAGS = ".".join(f"{first}{second}" for first in "abcde" for second in "fghij")
MANY_TAGS = f"app-9.0-{_TAGS}-{_TAGS}-{_TAGS}.whl"
"""A name of 240 characters that stands for 15,625 tags."""


@pytest.fixture
async def index() -> AsyncIterator[IndexServer]:
    async with IndexServer() as server:
        yield server


@pytest.fixture
async def resolver(tmp_path: Path, index: IndexServer) -> AsyncIterator[Resolving]:
    async with resolving(tmp_path, index.url, pypi_page_size=1 << 20) as opened:
        yield opened


def say(document: object, kind: str = JSON, status: int = 200, **headers: str) -> Odd:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Type": kind, **headers}, status=status)

    return answer


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"files": [' * 60_000, "is not JSON"),
        (b"[]", "has no list of files"),
        (b'{"files": 3}', "has no list of files"),
        (b"\xff\xfe{", "is not JSON"),
        (b'{"files": [' + b"1," * 400_000 + b"1]}", "it has 400001 files"),
        (
            b'{"files": [], "x": "' + b"a" * (2 << 20) + b'"}',
            r"has more than the allowed 1 MiB \(setting pypi_page_size",
        ),
    ],
)
async def test_pages_that_are_none(resolver: Resolving, index: IndexServer, body: bytes, reason: str) -> None:
    index.odd["/simple/app/"] = say(body)
    with pytest.raises(IndexRefused, match=reason):
        await resolver.solve("app")


async def test_a_page_of_another_type(resolver: Resolving, index: IndexServer) -> None:
    index.odd["/simple/app/"] = say(b"<html>", "text/plain")
    with pytest.raises(IndexRefused, match=r"neither application/vnd\.pypi\.simple"):
        await resolver.solve("app")


async def test_files_that_are_described_wrongly_are_passed_over(resolver: Resolving, index: IndexServer) -> None:
    good = index.add("app", "1.0")
    odd: list[object] = [
        None,
        [],
        {"filename": 1, "url": "x"},
        {"filename": "../../app-9.0-py3-none-any.whl", "url": "/files/x"},
        {**index.describe(good), "filename": "app-9.0-py3-none-any.whl"},
        {**index.describe(good), "filename": "other-9.0-py3-none-any.whl", "url": "/files/other-9.0-py3-none-any.whl"},
        {**index.describe(good), "filename": "app-9.0-py3-none-any.whl", "url": "http://[app-9.0-py3-none-any.whl"},
        {**index.describe(good), "url": f"/a/../files/{good.file_name}", "filename": good.file_name},
        *({**index.describe(good), "upload-time": each} for each in ENDS_OF_TIME),
        {**index.describe(good), "filename": MANY_TAGS, "url": f"/files/{MANY_TAGS}"},
        {**index.describe(good), "size": -1, "upload-time": "yesterday", "requires-python": 3},
    ]
    index.odd["/simple/app/"] = say({"name": "app", "files": odd})
    assert names(await resolver.solve("app")) == ["app 1.0"]


@pytest.mark.parametrize(
    "url",
    ["file:///etc/app-1.0-py3-none-any.whl", "ftp://example.org/app-1.0-py3-none-any.whl",
     "http://u:p@example.org/app-1.0-py3-none-any.whl"],
)  # fmt: skip
async def test_links_that_lead_nowhere_allowed(resolver: Resolving, index: IndexServer, url: str) -> None:
    index.add("app", "1.0", url=url)
    with pytest.raises(RequirementRefused, match="cannot be fetched"):
        await resolver.solve("app")


def test_no_link_leads_from_https_to_http() -> None:
    policy = IndexPolicy()
    wheel = LockedPackage(
        "pypi:app", "1.0", "py3-none-any", 0, "noarch", "https://pypi.org/simple",
        "http://files.pythonhosted.org/app-1.0-py3-none-any.whl", "app-1.0-py3-none-any.whl", 1, "0" * 64, None,
    )  # fmt: skip
    with pytest.raises(PackageRefused, match="its index uses https, but the wheel's address uses http"):
        policy.check_package(wheel)


async def test_internal_addresses_are_the_own_index_alone(resolver: Resolving, index: IndexServer) -> None:
    async with IndexServer() as inside:
        wheel = inside.add("app", "1.0")
        index.odd["/simple/app/"] = say(b"", status=302, Location=f"{inside.url}/app/")
        with pytest.raises(IndexRefused, match="an internal address"):
            await resolver.solve("app")
        linked = index.describe(make_wheel("linked", "1.0")) | {"url": f"{inside.host}/linked-1.0-py3-none-any.whl"}
        index.odd["/simple/linked/"] = say({"files": [linked]})
        with pytest.raises(IndexRefused, match="an internal address"):
            await resolver.solve("linked")
        assert inside.paths == []
        assert wheel.file_name


async def test_redirects_to_other_schemes(resolver: Resolving, index: IndexServer) -> None:
    index.odd["/simple/app/"] = say(b"", status=302, Location="file:///etc/passwd")
    with pytest.raises(IndexUnavailable, match="redirects to file:"):
        await resolver.solve("app")


async def test_an_index_that_does_not_answer(
    tmp_path: Path, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ATTEMPTS", 1)
    index.odd["/simple/app/"] = stall
    async with resolving(tmp_path, index.url, pypi_index_seconds=0.3) as resolver:
        with pytest.raises(IndexUnavailable, match=r"does not answer within 0\.3 s"):
            await resolver.solve("app")


async def test_an_index_with_a_fault_of_its_own(
    resolver: Resolving, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ATTEMPTS", 1)
    index.odd["/simple/app/"] = say(b"no", status=500)
    with pytest.raises(IndexUnavailable, match="answers 500"):
        await resolver.solve("app")


async def test_an_index_that_takes_the_whole_time(tmp_path: Path, index: IndexServer) -> None:
    index.odd["/simple/app/"] = stall
    async with resolving(tmp_path, index.url, pypi_seconds=0.5) as resolver:
        with pytest.raises(SolveLimit, match=r"time of 0\.5 s that the setting pypi_seconds allows"):
            await resolver.solve("app")


async def test_metadata_that_differs_from_its_hash(resolver: Resolving, index: IndexServer) -> None:
    index.add("app", "1.0", **dict[str, Any]({"core-metadata": {"sha256": "0" * 64}}))
    with pytest.raises(IndexRefused, match=r"the metadata of app-1\.0-py3-none-any\.whl has sha256"):
        await resolver.solve("app")


async def test_metadata_of_another_package(resolver: Resolving, index: IndexServer) -> None:
    forged = make_wheel("other", "1.0").metadata
    index.add("app", "1.0", **dict[str, Any]({"core-metadata": {"sha256": hashlib.sha256(forged).hexdigest()}}))
    index.odd["app-1.0-py3-none-any.whl.metadata"] = say(forged, "text/plain")
    with pytest.raises(BuilderError, match="app"):
        await resolver.solve("app")


async def test_a_wheel_that_differs_from_its_hash(resolver: Resolving, index: IndexServer) -> None:
    index.has_metadata = False
    index.add("app", "1.0", hashes={"sha256": "0" * 64})
    with pytest.raises(PackageRefused, match="its sha256 is"):
        await resolver.solve("app")


async def test_a_wheel_that_is_no_zip(resolver: Resolving, index: IndexServer) -> None:
    index.has_metadata = False
    index.wheels.append(Wheel("app", "app-1.0-py3-none-any.whl", b"no zip at all", b"", {}))
    with pytest.raises(PackageRefused, match="not a sound zip file"):
        await resolver.solve("app")


async def test_one_index_says_nothing_of_the_wheels_of_another(tmp_path: Path, index: IndexServer) -> None:
    """The hash is public; whoever repeats it may lie about what the wheel requires."""
    genuine = index.add("app", "1.0", ["lib"])
    index.add("lib", "1.0")
    async with IndexServer() as liar:
        lie = make_wheel("app", "1.0", ["evil"]).metadata
        liar.wheels.append(Wheel("app", genuine.file_name, genuine.content, lie, {}))
        liar.add("evil", "1.0")
        policy = IndexPolicy((index.url,), (liar.url,))
        async with resolving(tmp_path, index.url, policy=policy) as resolver:
            assert names(await resolver.solve("app", indexes=(liar.url,))) == ["evil 1.0", "app 1.0"]
            assert names(await resolver.solve("app")) == ["lib 1.0", "app 1.0"]


async def test_endless_dependencies(resolver: Resolving, index: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MOST_PAGES", 20)
    for number in range(30):
        index.add(f"app{number}", "1.0", [f"app{number + 1}"])
    with pytest.raises(RequirementRefused, match="looks at more than 20 packages"):
        await resolver.solve("app0")


async def test_the_gateway_answers_its_own_uv_alone(resolver: Resolving, index: IndexServer) -> None:
    index.add("app", "1.0")
    parts = resolver.resolver
    session = gateway.Session(View((index.url,)), NO_LOGINS, parts.client, parts.metadata)
    async with gateway.Gateway(session) as opened, aiohttp.ClientSession() as asking:

        async def ask(url: str, proxy: str) -> int:
            async with asking.get(url, proxy=proxy) as response:
                return response.status

        address = f"{session.view.url}/app/"
        assert await ask(address, opened.url) == 200
        assert await ask(address, opened.url.replace("uv:", "uv:x")) == 407
        assert await ask(f"{index.url}/app/", opened.url) == 403
        assert (
            await ask(f"http://{session.view.host}/file/9/{'0' * 64}/none/http/example.org/x.metadata", opened.url)
            == 404
        )


def test_names_with_many_tags_are_refused_before_they_are_multiplied() -> None:
    assert len(MANY_TAGS) < 250
    with pytest.raises(InvalidWheelFilename, match="more than 500 tags"):
        parse_wheel_name(MANY_TAGS)
    with pytest.raises(InvalidWheelFilename, match="characters"):
        parse_wheel_name(f"{'a' * 300}-1-py3-none-any.whl")
    assert len(parse_wheel_name("a-1-cp38.cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")[3]) == 4


async def test_a_solve_looks_at_so_many_files(
    resolver: Resolving, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "MOST_FILES", 2)
    for version in ("1.0", "2.0", "3.0"):
        index.add("app", version)
    with pytest.raises(RequirementRefused, match="more than 2 files"):
        await resolver.solve("app")
    monkeypatch.setattr(gateway, "MOST_FILES", 10)
    monkeypatch.setattr(gateway, "MOST_METADATA", 10)
    with pytest.raises(RequirementRefused, match="MiB of metadata"):
        await resolver.solve("app")


@pytest.mark.parametrize(
    "line",
    ["Requires-Dist: a; " + "(" * 20_000, "Requires-Dist: " + "a" * 5000, "Requires-Python: >=3.x.y!"],
)
def test_odd_lines_of_metadata_are_no_errors_of_ours(line: str) -> None:
    metadata = parse_metadata(f"Metadata-Version: 2.1\nName: app\nVersion: 1\n{line}\n".encode(), "app")
    assert metadata.requires == ()


def test_metadata_is_counted_before_it_is_parsed() -> None:
    lines = b"Requires-Dist: a\n" * 20_000
    with pytest.raises(PackageRefused, match="20003 lines"):
        parse_metadata(b"Metadata-Version: 2.1\nName: app\nVersion: 1\n" + lines, "app")
    with pytest.raises(PackageRefused, match="no name and version"):
        parse_metadata(b"Name: app\nVersion: " + b"1" * 900 + b"!!\n", "app")
