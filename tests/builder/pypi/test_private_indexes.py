"""Indexes that want a login: it goes to its own index alone, and what is read with it is its namespace's alone."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.channels.logins import NO_LOGINS, Logins, NamespaceLogins
from builder.errors import BuilderError, IndexUnavailable
from builder.names.spec import EnvironmentSpec
from builder.pypi.view import Link
from storage.catalog.credential import NamespaceCredential
from tests.support.pypi.index_server import IndexServer
from tests.support.pypi.resolving import Resolving, names, resolving

SECRET = "hunter2-of-the-index"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


@pytest.fixture
async def index() -> AsyncIterator[IndexServer]:
    async with IndexServer(authorization=BASIC) as server:
        yield server


@pytest.fixture
async def public() -> AsyncIterator[IndexServer]:
    async with IndexServer() as server:
        yield server


@pytest.fixture
async def resolver(tmp_path: Path, index: IndexServer, public: IndexServer) -> AsyncIterator[Resolving]:
    async with resolving(tmp_path, index.url, public.url) as opened:
        yield opened


def hold(*addresses: str, number: str = "1") -> Logins:
    held = [NamespaceCredential(number, "team", "channel", each, "basic", SECRET, "me") for each in addresses]
    return Logins.of("team", held)


async def test_a_login_is_for_its_own_index(
    resolver: Resolving, index: IndexServer, public: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("private", "1.0")
    public.add("private", "9.0")
    public.add("open", "1.0")
    shown: list[str | None] = []

    async def note(request: object) -> object:
        shown.append(request.headers.get("Authorization"))  # type: ignore[attr-defined] # aiohttp's
        return public._answer_page("open")

    public.odd["/simple/open/"] = note  # type: ignore[assignment] # as above
    wheels = await resolver.solve("private", "open", logins=hold(f"{index.host}/"))
    assert names(wheels) == ["open 1.0", "private 1.0"]
    assert shown == [None]
    written = [
        path
        for folder, _, files in os.walk(resolver.resolver.folders.root)
        for each in files
        if SECRET.encode() in (path := Path(folder, each)).read_bytes()
    ]
    assert written == []


async def test_without_a_login_nothing_is_told(resolver: Resolving, index: IndexServer) -> None:
    index.add("private", "1.0")
    assert names(await resolver.solve("private", logins=hold(f"{index.host}/"))) == ["private 1.0"]
    asked = len(index.paths)
    with pytest.raises(IndexUnavailable, match="answers 401; the credentials for its host are missing or wrong"):
        await resolver.solve("private", logins=NO_LOGINS)
    assert len(index.paths) > asked
    with pytest.raises(IndexUnavailable, match="answers 401") as caught:
        await resolver.solve("private", logins=hold("https://elsewhere.example.org/", number="2"))
    assert SECRET not in str(caught.value)


async def test_specs_belong_to_whose_login_their_indexes_want() -> None:
    class Held:
        async def find(self, namespace: str) -> list[NamespaceCredential]:
            return list(hold("https://pypi.example.org/simple/").held) if namespace == "team" else []

    spec = EnvironmentSpec((), (), requirements=("app",), indexes=("https://pypi.example.org/simple",))
    logins = NamespaceLogins(Held(), "https://conda.example.org", ("https://pypi.org/simple",))
    assert (await logins.give_owner(spec, "team")).owner == "team"
    assert (await logins.give_owner(spec, "others")).owner == ""
    assert (await logins.give_owner(replace(spec, indexes=()), "team")).owner == ""
    own = NamespaceLogins(Held(), "https://conda.example.org", ("https://pypi.example.org/simple",))
    assert (await own.give_owner(replace(spec, indexes=()), "team")).owner == "team"
    assert (await own.give_owner(replace(spec, requirements=()), "team")).owner == ""


@pytest.mark.parametrize("dots", ["../", "%2e%2e/", ".%2E/", "..\\"])
async def test_no_link_of_an_index_becomes_one_of_another(
    resolver: Resolving, index: IndexServer, public: IndexServer, dots: str
) -> None:
    """uv resolves dots in paths: the address of a file of one index must not become that of another's, whose login the
    server has."""
    index.add("app", "1.0")
    wheel = public.add("app", "1.0")
    hidden = f"{index.host.removeprefix('http://')}/files/{wheel.file_name}"
    wheel.facts["url"] = f"https://h.example.org/{dots * 6}file/1/{'1' * 64}/given/http/{hidden}"
    wheel.facts["hashes"] = {"sha256": "1" * 64}
    with pytest.raises(BuilderError):
        await resolver.solve("app", indexes=(public.url, index.url), logins=hold(index.host + "/"))
    assert index.paths == []


def test_addresses_of_files_are_read_back_whatever_is_in_them() -> None:
    for url in ("https://h.example.org/a/../b/x-1.whl", "http://[::1]:80/x%2B-1.whl", "https://h/.%2e/x.whl"):
        link = Link(7, "1" * 64, None, url)
        assert Link.parse(link.write()) == link
        assert ".." not in link.write()
    assert Link.parse(f"/file/0/{'1' * 64}/none/_w==/x.whl") is None
