"""Odd records of a channel's index: each ends in an image, or in a reason that names the package or the channel."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildFailed
from builder.service import BuilderService
from tests.support.builder.packages import File, Package
from tests.support.builder.services import open_service
from tests.support.servers.channel_server import ChannelServer

KEY = "lib-1.0-0.conda"
REMOVED = object()
Document = dict[str, Any]

REFUSED = r"package .*lib.* is refused: .*{}.* \(channel http"
UNREADABLE = r"channel http\S+ cannot be read: its index has a record that cannot be read: .*{}"
OF_OTHER_NAME = r"package lib is refused: .* has files of lib, but no record has that name \(in http"
UNPARSABLE = r"lib 1\.0 is excluded because the {} .*failed to parse"

RECORDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "plain": ({}, None),
    "name with capitals": ({"name": "Lib"}, OF_OTHER_NAME),
    "name with a space": ({"name": "li b"}, OF_OTHER_NAME),
    "name with separators": ({"name": "../lib"}, OF_OTHER_NAME),
    "name with control characters": ({"name": "lib\x1b[0m"}, OF_OTHER_NAME),
    "name of another": ({"name": "other"}, OF_OTHER_NAME),
    "no name": ({"name": REMOVED}, UNREADABLE.format("missing field `name`")),
    "name that is a number": ({"name": 5}, UNREADABLE.format("expected a string")),
    "no hash": ({"sha256": REMOVED, "md5": REMOVED}, REFUSED.format("neither sha256 nor md5")),
    "md5 alone": ({"sha256": REMOVED}, None),
    "hash that is a path": ({"sha256": "../../x"}, UNREADABLE.format("digest")),
    "negative size": ({"size": -1}, UNREADABLE.format("expected u64")),
    "size of a float": ({"size": 1.5}, UNREADABLE.format("expected u64")),
    "size of 10^30": ({"size": 10**30}, UNREADABLE.format("expected u64")),
    "size of 2^63": ({"size": 2**63}, REFUSED.format("9223372036854775808 bytes")),
    "size of nothing": ({"size": 0}, REFUSED.format("0 bytes")),
    "no size": ({"size": REMOVED}, None),
    "timestamp in seconds": ({"timestamp": 1_600_000_000}, None),
    "negative timestamp": ({"timestamp": -5}, None),
    "timestamp of a float": ({"timestamp": 1.5}, UNREADABLE.format("expected i64")),
    "timestamp out of range": ({"timestamp": 2**63 - 1}, UNREADABLE.format("timestamp")),
    "no version": ({"version": ""}, UNREADABLE.format("version")),
    "version with separators": ({"version": "../1"}, UNREADABLE.format("version")),
    "version with a space": ({"version": "1 2"}, UNREADABLE.format("version")),
    "long version": ({"version": ".".join(["1"] * 3000)}, REFUSED.format("more than 240 characters")),
    "version with an epoch": ({"version": "1!2.0+local"}, None),
    "build with separators": ({"build": "../0"}, REFUSED.format("gives '../0' as its build")),
    "build with a space": ({"build": "a b"}, REFUSED.format("gives 'a b' as its build")),
    "build with a line break": ({"build": "a\n"}, REFUSED.format(r"gives 'a\\n' as its build")),
    "no build": ({"build": ""}, REFUSED.format("gives '' as its build")),
    "negative build number": ({"build_number": -1}, UNREADABLE.format("expected u64")),
    "depends that does not parse": ({"depends": ["]["]}, UNPARSABLE.format("dependency")),
    "empty depends": ({"depends": [""]}, UNPARSABLE.format("dependency")),
    "depends that is text": ({"depends": "python"}, UNREADABLE.format("expected a sequence")),
    "constrains that does not parse": ({"constrains": ["][ ="]}, UNPARSABLE.format("constrains")),
    "subdir of another platform": ({"subdir": "win-64"}, REFUSED.format("linux-64, but its record says 'win-64'")),
    "subdir that is a path": ({"subdir": "../../etc"}, REFUSED.format("its record says '../../etc'")),
    "no subdir": ({"subdir": REMOVED}, None),
    "fn with separators": ({"fn": "../../etc/passwd"}, None),
    "url with a login": ({"url": "http://user:secret@127.0.0.1/x.conda"}, None),
    "place of python packages outside": (
        {"python_site_packages_path": "../../../etc"},
        REFUSED.format("gives '../../../etc' as site-packages"),
    ),
}  # fmt: skip
"""What is changed in the record of `lib`, and the reason; None where it ends in an image."""


def document(channel: Path) -> Document:
    """The index of a channel with `lib` alone, as it should be."""
    package = Package("lib", files={"share/lib": File(b"lib")})
    package.conda(channel)
    content = (channel / "linux-64" / KEY).read_bytes()
    hashes = {"sha256": hashlib.sha256(content).hexdigest(), "md5": hashlib.md5(content).hexdigest()}
    record = {**package.index(), **hashes, "size": len(content)}
    return {"info": {"subdir": "linux-64"}, "packages": {}, "packages.conda": {KEY: record}, "repodata_version": 1}


def write(channel: Path, index: str) -> None:
    (channel / "noarch").mkdir(exist_ok=True)
    (channel / "noarch/repodata.json").write_text('{"info":{"subdir":"noarch"},"packages":{},"packages.conda":{}}')
    (channel / "linux-64/repodata.json").write_text(index)


async def build(service: BuilderService) -> None:
    ticket = await service.demand.image("conda-store-dynamic/lib", "latest")
    assert await ticket.wait(60)


async def ends(tmp_path: Path, reason: str | None) -> None:
    """The build of `lib` ends in an image, or for this reason, which tells nothing of the server's own files."""
    async with (
        ChannelServer(tmp_path / "channel") as server,
        open_service(tmp_path / "data", server.url) as service,
    ):
        if reason is None:
            await build(service)
            return
        process = service.builder.solver.shared.pid
        with pytest.raises(BuildFailed) as caught:
            await build(service)
        assert re.search(reason, caught.value.message)
        assert caught.value.kind != "WorkerLost"
        assert str(tmp_path) not in caught.value.message
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", caught.value.message)
        assert service.builder.solver.shared.pid == process


@pytest.mark.parametrize("case", RECORDS)
async def test_odd_record(case: str, tmp_path: Path) -> None:
    changes, reason = RECORDS[case]
    index = document(tmp_path / "channel")
    record = index["packages.conda"][KEY]
    for name, value in changes.items():
        if value is REMOVED:
            del record[name]
        else:
            record[name] = value
    write(tmp_path / "channel", json.dumps(index))
    await ends(tmp_path, reason)


def _without_info(index: Document) -> None:
    del index["info"]


def _info_of_another_platform(index: Document) -> None:
    index["info"]["subdir"] = "win-64"


def _packages_elsewhere(index: Document) -> None:
    index["info"]["base_url"] = "../../x"


def _packages_that_are_a_list(index: Document) -> None:
    index["packages.conda"] = []


def _packages_that_are_nothing(index: Document) -> None:
    index["packages.conda"] = None


def _without_packages(index: Document) -> None:
    del index["packages"]


def _a_record_that_is_a_list(index: Document) -> None:
    index["packages.conda"][KEY] = []


def _a_record_twice(index: Document) -> None:
    index["packages"] = {KEY.replace(".conda", ".tar.bz2"): index["packages.conda"][KEY]}


UNREAD = r"channel http\S+ cannot be read: its index is broken: "
INDEXES: dict[Callable[[Document], None], str | None] = {
    _without_info: None,
    _info_of_another_platform: None,
    _packages_elsewhere: r"package lib-1\.0-0\.conda cannot be downloaded: .*404",
    _packages_that_are_a_list: UNREAD,
    _packages_that_are_nothing: UNREAD,
    _without_packages: None,
    _a_record_that_is_a_list: r"channel http\S+ cannot be read: its index has a record that cannot be read",
    _a_record_twice: None,
}


@pytest.mark.parametrize("change", INDEXES, ids=lambda change: change.__name__)
async def test_odd_index(change: Callable[[Document], None], tmp_path: Path) -> None:
    index = document(tmp_path / "channel")
    change(index)
    write(tmp_path / "channel", json.dumps(index))
    await ends(tmp_path, INDEXES[change])


@pytest.mark.parametrize("key", ["../lib-1.0-0.conda", "x/lib-1.0-0.conda", "lib 1.0-0.conda", "lib-1.0-0.conda?x#y"])
async def test_a_record_under_a_name_that_is_no_file_name(key: str, tmp_path: Path) -> None:
    index = document(tmp_path / "channel")
    index["packages.conda"] = {key: index["packages.conda"][KEY]}
    write(tmp_path / "channel", json.dumps(index))
    await ends(tmp_path, r"channel http\S+ cannot be read: its index (is broken|has a record that cannot be read): ")


@pytest.mark.parametrize(
    "index", ["", "nonsense", "[]", "[" * 100_000, '{"info":'], ids=lambda index: index[:9] or "empty"
)
async def test_an_index_that_is_no_document(index: str, tmp_path: Path) -> None:
    document(tmp_path / "channel")
    write(tmp_path / "channel", index)
    await ends(tmp_path, UNREAD)


async def test_what_else_the_channel_has_is_not_refused(tmp_path: Path) -> None:
    index = document(tmp_path / "channel")
    index["packages.conda"]["bad-1.0-0.conda"] = {**index["packages.conda"][KEY], "name": "Bad"}
    write(tmp_path / "channel", json.dumps(index))
    async with (
        ChannelServer(tmp_path / "channel") as server,
        open_service(tmp_path / "data", server.url) as service,
    ):
        ticket = await service.demand.image("conda-store-dynamic/bad", "latest")
        with pytest.raises(BuildFailed, match="package bad is refused"):
            await ticket.wait(60)
        await build(service)
