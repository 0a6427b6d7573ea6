"""Searches over the indexes of real repodata, read by the process that reads it for solves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from builder.errors import SearchUnavailable
from builder.policy.versions import compare, parse_version
from builder.search.package import FoundPackage
from builder.search.question import COLUMNS, Question
from builder.search.search import PackageSearch
from tests.support.builder.searching import (
    find,
    find_problems,
    open_search,
    record,
    settle,
    write_repodata,
    write_summaries,
)
from tests.support.sample import sample_channel_directory
from tests.support.servers.channel_server import ChannelServer

FIRST = [
    record("numpy", "1.26.4", "py312_0"),
    record("numpy", "1.26.4", "py312_1"),
    record("numpy", "1.9.0", "py27_0"),
    record("numpy", "2.0.0rc1", "py312_0"),
    record("numpy", "2.0.0", "py312_0", size=123, depends=["python", "libblas"], license="BSD-3-Clause"),
    record("numba", "0.60.0"),
    record("libnuma", "2.0.16"),
    record("python", "3.12.1"),
]
SECOND = [
    record("numpy", "2.1", "mkl_0"),
    record("numpy", "2.0.0", "mkl_0"),
    record("scipy", "1.14"),
]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ChannelServer]:
    """Two channels, `first` and `second`."""
    write_repodata(tmp_path / "channels" / "first", *FIRST)
    write_repodata(tmp_path / "channels" / "first", record("zipp", "3.0"), platform="noarch")
    write_summaries(tmp_path / "channels" / "first", numpy="Arrays\nof numbers", zipp="")
    write_repodata(tmp_path / "channels" / "second", *SECOND)
    async with ChannelServer(tmp_path / "channels") as running:
        yield running


@pytest.fixture
async def search(tmp_path: Path, server: ChannelServer) -> AsyncIterator[PackageSearch]:
    async with open_search(tmp_path, server.url, "first", "second") as opened:
        yield opened


async def test_all_that_is_known_of_a_package_is_found(search: PackageSearch, server: ChannelServer) -> None:
    async with search.find(Question("numpy", exact=True, build="py312", distinct_on=frozenset(["name"]))) as found:
        (package,) = await found.read_page(0, 10, lambda each: each)
        assert found.channels[package.channel].channel.url == f"{server.url}/first/"
    assert isinstance(package, FoundPackage)
    assert package._replace(channel=0, id=0) == FoundPackage(
        *(0, 0, "numpy", "2.0.0", "py312_0", 0, "linux-64", "BSD-3-Clause", "Arrays of numbers", 123),
        *(1_700_000_000_000, FIRST[4]["sha256"], "0" * 32, 2),
    )
    assert 0 < package.id < 1 << 53


async def test_names_are_searched_by_a_part_whatever_its_case(search: PackageSearch) -> None:
    names = await find(search, "NUM", distinct_on=frozenset(["name"]))
    assert [name for name, _, _ in names] == ["libnuma", "numba", "numpy"]
    assert await find(search, "num", exact=True) == []
    assert {name for name, _, _ in await find(search, "Numba", exact=True)} == {"numba"}
    assert await find(search, "%") == []
    assert await find(search, "_") == []


async def test_versions_sort_as_conda_sorts_them(search: PackageSearch) -> None:
    versions = await find(
        search, "numpy", exact=True, distinct_on=frozenset(["version"]), sort_by="version", descending=True
    )
    assert [version for _, version, _ in versions] == ["2.1", "2.0.0", "2.0.0rc1", "1.26.4", "1.9.0"]


async def test_of_packages_that_are_alike_the_newest_is_shown(search: PackageSearch) -> None:
    assert await find(search, "numpy", distinct_on=frozenset(["name"])) == [("numpy", "2.1", "mkl_0")]
    both = await find(search, "numpy", distinct_on=frozenset(["name", "channel"]))
    assert both == [("numpy", "2.0.0", "py312_0"), ("numpy", "2.1", "mkl_0")]
    assert await find(search, "numpy", build="py312_1") == [("numpy", "1.26.4", "py312_1")]
    found = await find(search, "numpy", channels=["first"], distinct_on=frozenset(["version"]), build="py312")
    assert found == [("numpy", "1.26.4", "py312_1"), ("numpy", "2.0.0rc1", "py312_0"), ("numpy", "2.0.0", "py312_0")]


async def test_every_question_is_answered_like_a_list_that_is_sorted_and_grouped_in_python(
    search: PackageSearch,
) -> None:
    """All combinations of what can be asked for."""
    everything = [("first", each) for each in [*FIRST, record("zipp", "3.0")]] + [("second", each) for each in SECOND]
    columns = [frozenset(each for each, chosen in zip(COLUMNS, mask, strict=True) if chosen)
               for mask in product([False, True], repeat=3)]  # fmt: skip
    texts, builds, channels = ("", "num", "numpy", "nothing"), ("", "py312"), (("first", "second"), ("second",))
    sorts = ("", *COLUMNS)
    for text, exact, build, chosen, distinct in product(texts, (False, True), builds, channels, columns):
        wanted = [
            (channel, each["name"], each["version"], each["build"])
            for channel, each in everything
            if channel in chosen and build in each["build"]
            and (each["name"] == text if exact and text else text in each["name"])
        ]  # fmt: skip
        groups = {tuple(row[COLUMNS.index(each)] for each in COLUMNS if each in distinct) for row in wanted}
        for sort, descending in product(sorts, (False, True)):
            question = Question(text, exact, build, distinct, sort, descending)  # type: ignore[arg-type] # one of them
            found = await find(
                search, text, channels=chosen, exact=exact, build=build, distinct_on=distinct, sort_by=sort,
                descending=descending,
            )  # fmt: skip
            assert set(found) <= {row[1:] for row in wanted}
            assert len(found) == (len(groups) if distinct else len(wanted)), question
            if not distinct:
                assert sorted(found) == sorted(row[1:] for row in wanted), question
            if sort == "name":
                assert [row[0] for row in found] == sorted((row[0] for row in found), reverse=descending), question
            if sort == "version":
                keys = [parse_version(row[1]) for row in found]
                pairs = zip(keys[1:], keys, strict=False) if descending else pairwise(keys)
                assert all(compare(one, other) <= 0 for one, other in pairs), question


async def test_pages_are_parts_of_the_whole(search: PackageSearch) -> None:
    distinct: tuple[frozenset[Any], ...] = (frozenset(), frozenset(["name"]), frozenset(["name", "version", "channel"]))
    for descending, sort, alike, size in product((False, True), COLUMNS, distinct, (2, 5)):
        question = Question(descending=descending, sort_by=sort, distinct_on=alike)
        async with search.find(question) as found:
            whole = await found.read_page(0, 100, tuple)
            pages = [await found.read_page(begin, size, tuple) for begin in range(0, 20, size)]
            assert [each for page in pages for each in page] == whole, question
            assert await found.read_page(10_000, 5, tuple) == []


async def test_ids_stay_when_a_channel_changes(tmp_path: Path, search: PackageSearch, server: ChannelServer) -> None:
    async def read() -> tuple[dict[Any, int], list[int]]:
        async with search.find(Question("numba")) as found:
            packages = await found.read_page(0, 100, lambda each: each)
            return {each.name: each.id for each in packages}, [each.channel.id for each in found.channels]

    before, channels = await read()
    assert len(set(channels)) == 2
    write_repodata(server.directory / "first", record("a", "1"), *FIRST)
    async with open_search(tmp_path / "other", server.url, "first", "second") as other:
        search = other
        assert await read() == (before, channels)


async def test_an_index_is_read_again_when_it_is_too_old(tmp_path: Path, server: ChannelServer) -> None:
    async with open_search(tmp_path, server.url, "first", "second", refresh=0) as search:
        assert await find(search, "fresh") == []
        write_repodata(server.directory / "second", record("fresh"), *SECOND)
        await settle(search, "fresh", until=lambda found: found == [("fresh", "1.0", "0")])


async def test_an_index_that_is_young_is_not_read_again(search: PackageSearch, server: ChannelServer) -> None:
    assert [each.last_update for each in await search.list_channels()] == [None, None]
    assert server.requests == []
    await find(search)
    asked = len(server.requests)
    write_repodata(server.directory / "second", record("fresh"), *SECOND)
    assert await find(search, "fresh") == []
    assert len(server.requests) == asked
    assert all(each.last_update for each in await search.list_channels())


async def test_an_index_outlives_its_server(tmp_path: Path, server: ChannelServer) -> None:
    async with open_search(tmp_path, server.url, "first") as search:
        before = await find(search)
    asked = len(server.requests)
    async with open_search(tmp_path, server.url, "first") as search:
        assert await find(search) == before
    assert len(server.requests) == asked


async def test_of_repodata_that_has_not_changed_no_index_is_made(tmp_path: Path, server: ChannelServer) -> None:
    async with open_search(tmp_path, server.url, "first", refresh=0) as search:
        await find(search)
        (index,) = (tmp_path / "search").glob("*.sqlite")
        before = index.stat()
        await settle(search, "", until=lambda _: index.stat().st_mtime_ns != before.st_mtime_ns)
        assert index.stat().st_ino == before.st_ino


async def test_processes_of_one_machine_read_a_channel_once(tmp_path: Path, server: ChannelServer) -> None:
    async with (
        open_search(tmp_path / "both", server.url, "first") as one,
        open_search(tmp_path / "both", server.url, "first") as other,
    ):
        held = server.hold("linux-64/repodata.json")
        searches = [asyncio.create_task(find(each)) for each in (one, other)]
        await asyncio.to_thread(held.reached.wait)
        held.released.set()
        first, second = await asyncio.gather(*searches)
        assert first == second
    asked = [each for each in server.seen("linux-64/repodata.json") if each.status == 200]
    assert len(asked) == 1


async def test_indexes_of_channels_that_are_not_searched_any_more_go(tmp_path: Path, server: ChannelServer) -> None:
    for channels, kept in ((["first", "second"], 2), (["second"], 1)):
        async with open_search(tmp_path, server.url, *channels) as search:
            await find(search)
        assert len(list((tmp_path / "search").glob("*.sqlite"))) == kept


async def test_the_sample_channel_is_searched(tmp_path: Path) -> None:
    async with (
        ChannelServer(sample_channel_directory()) as server,
        open_search(tmp_path, server.url, f"{server.url}/") as search,
    ):
        found = await find(search, "numpy", exact=True, distinct_on=frozenset(["name"]))
        assert [name for name, _, _ in found] == ["numpy"]
        assert await find_problems(search) == {}


async def test_a_directory_is_read_again_when_it_changes(tmp_path: Path) -> None:
    channel = write_repodata(tmp_path / "local", *SECOND)
    async with open_search(tmp_path, "http://127.0.0.1:1", channel.as_uri()) as search:
        assert await find(search, "scipy") == [("scipy", "1.14", "0")]
        write_repodata(channel, record("scipy", "1.15"))
        await settle(search, "scipy", until=lambda found: found == [("scipy", "1.15", "0")])


async def test_a_channel_that_is_gone_is_searched_as_it_was_and_said_so(tmp_path: Path, server: ChannelServer) -> None:
    async with open_search(tmp_path, server.url, "first", "second", refresh=0) as search:
        before = await find(search)
        (server.directory / "second" / "linux-64" / "repodata.json").unlink()
        async with asyncio.timeout(120):
            while not await find_problems(search):
                await asyncio.sleep(0.05)
        assert await find(search) == before
        problems = await find_problems(search)
        assert list(problems) == ["second"]
        assert "does not exist (404)" in problems["second"]


async def test_a_channel_that_never_was_takes_nothing_from_the_others(tmp_path: Path, server: ChannelServer) -> None:
    async with open_search(tmp_path, server.url, "first", "nothing") as search:
        assert ("zipp", "3.0", "0") in await find(search)
        assert "404" in (await find_problems(search))["nothing"]
    async with open_search(tmp_path / "alone", server.url, "nothing") as search:
        with pytest.raises(SearchUnavailable, match=r"nothing: .*404"):
            await find(search)


async def test_an_index_that_is_damaged_is_made_anew(tmp_path: Path, search: PackageSearch) -> None:
    before = await find(search)
    for path in (tmp_path / "search").glob("*.sqlite"):
        path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(SearchUnavailable, match="made anew"):
        await find(search)
    assert await find(search) == before


BIG = 1 << 63
HOSTILE = {
    "a name that leads elsewhere": record("../../etc"),
    "a version that is none": record("good", "1..2!x"),
    "a version that is long": record("good", "1." * 400 + "1"),
    "a build that is a path": record("good", build="../0"),
    "a build number that no reader of JSON can read": record("good", build_number=BIG),
    "a negative build number": record("good", build_number=-1),
    "a size that is none": record("good", size=-1),
    "a size that is a text": record("good", size="large"),
    "a time without end": record("good", timestamp=BIG),
    "a licence that writes on the terminal": record("good", license="\x1b[2J\r\n" + "x" * 100_000),
    "dependencies that are none": record("good", depends="python"),
    "parentheses": record("good", depends=["(" * 30_000]),
    "no hash": record("good", sha256=None, md5=None),
    "a hash that is none": record("good", sha256="zz"),
    "a subdir of others": record("good", subdir="osx-64"),
    "nothing": {"name": "good", "version": "1", "build": "0"},
}


async def test_hostile_records_take_no_other_with_them(tmp_path: Path, server: ChannelServer) -> None:
    named = [{**each, "name": f"{each['name']}{number}"} for number, each in enumerate(HOSTILE.values())]
    write_repodata(server.directory / "hostile", *named, record("other"), record("zzz"))
    async with open_search(tmp_path, server.url, "hostile") as search, search.find(Question()) as found:
        packages = await found.read_page(0, 100, lambda each: each)
        assert {"other", "zzz"} <= {each.name for each in packages}
        for each in packages:
            assert each.name.isalnum()
            assert (each.license or "").isprintable()
            assert len(each.license or "") <= 1200
            assert orjson.loads(orjson.dumps(list(each))) == list(each)


async def test_repodata_that_is_none_is_refused(tmp_path: Path, server: ChannelServer) -> None:
    contents = [b"", b"[" * 100_000, b"null", b'{"packages": 3}', b"\x28\xb5\x2f\xfd", b"<html>"]
    names = [f"broken{number}" for number in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        write_repodata(server.directory / name, record("x"))
        (server.directory / name / "linux-64" / "repodata.json").write_bytes(content)
    async with open_search(tmp_path, server.url, *names) as search:
        with pytest.raises(SearchUnavailable) as refused:
            await find(search)
        assert list(refused.value.reasons) == names
        assert all("index is broken" in reason for reason in refused.value.reasons.values()), refused.value.reasons


async def test_directories_are_refused_likewise(tmp_path: Path) -> None:
    """Their indexes are copied, and unpacked if only a packed one is there."""
    plain = write_repodata(tmp_path / "plain", *(record(f"package{number}") for number in range(3000)))
    packed = write_repodata(tmp_path / "packed", record("x"))
    (packed / "linux-64" / "repodata.json").unlink()
    good = packed / "linux-64" / "repodata.json.zst"
    good.write_bytes(zstandard.compress((plain / "linux-64" / "repodata.json").read_bytes()))
    broken = write_repodata(tmp_path / "broken", record("x"))
    (broken / "linux-64" / "repodata.json").rename(broken / "linux-64" / "repodata.json.zst")
    names = [each.as_uri() for each in (plain, packed, broken)]
    async with open_search(tmp_path / "data", "http://127.0.0.1:1", *names) as search:
        assert len(await find(search, channels=names[:2])) == 6000
        assert "index is broken" in (await find_problems(search))[names[2]]
    async with open_search(tmp_path / "small", "http://127.0.0.1:1", *names[:2], repodata_size=200_000) as search:
        with pytest.raises(SearchUnavailable) as refused:
            await find(search)
        assert all("repodata_size" in reason for reason in refused.value.reasons.values()), refused.value.reasons
    assert not list((tmp_path / "data" / "repodata").glob(".tmp*"))


async def test_repodata_that_is_too_large_is_refused(tmp_path: Path, server: ChannelServer) -> None:
    write_repodata(server.directory / "large", *(record(f"package{number}") for number in range(3000)))
    async with open_search(tmp_path, server.url, "large", "second", repodata_size=200_000) as search:
        assert ("scipy", "1.14", "0") in await find(search)
        assert "repodata_size" in (await find_problems(search))["large"]


async def test_summaries_that_are_none_are_left_out(tmp_path: Path, server: ChannelServer) -> None:
    (server.directory / "second" / "channeldata.json").write_bytes(
        b'{"packages": {"scipy": {"summary": 3}, "numpy": 5}}'
    )
    (server.directory / "first" / "channeldata.json").write_bytes(b"[" * 100_000)
    async with open_search(tmp_path, server.url, "first", "second") as search, search.find(Question()) as found:
        assert {each.summary for each in await found.read_page(0, 100, lambda each: each)} == {""}
