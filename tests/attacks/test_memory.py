"""Small packages that would take much memory: each is refused with its reason, or made, within bounds.

Every process is watched for its peak, and the event loop for the processor time that it spends without a pause.
"""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import io
import json
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard

from builder.errors import BuilderError
from registry.serving.server import rest_collector
from tests.support.builder.packages import PLACEHOLDER, TIME, File, Made, Package, pack, zip_parts
from tests.support.builder.services import make_channel, open_service, spec_of

LARGEST_PACKAGE = 8 << 20
LARGEST_PROCESS = 600 * 1000 * 1000
LONGEST_STALL = 0.1
"""Seconds of the loop's thread between two of its turns."""


class Watch:
    """The largest peak among the processes below this one, and the loop's longest stall."""

    def __init__(self) -> None:
        self.largest = 0
        self.stall = 0.0

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._tick()), asyncio.create_task(asyncio.to_thread(self._look))]
        self._ended = False
        try:
            yield
        finally:
            self._ended = True
            await asyncio.gather(*tasks)

    async def _tick(self) -> None:
        before = time.thread_time()
        while not self._ended:
            await asyncio.sleep(0.005)
            now = time.thread_time()
            self.stall, before = max(self.stall, now - before), now

    def _look(self) -> None:
        own = psutil.Process()
        while not self._ended:
            for process in own.children(recursive=True):
                self.largest = max(self.largest, peak(process.pid))
            time.sleep(0.02)


def peak(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


class Hostile(Package):
    """A package of which parts of the archive are replaced."""

    def archive(self, folder: Path, *, payload: bytes | None = None, **info: bytes) -> Made:
        files = {**self.info_files(), **{f"info/{name.replace('__', '.')}": each for name, each in info.items()}}
        parts = {
            "metadata.json": b'{"conda_pkg_format_version": 2}',
            f"pkg-{self.stem}.tar.zst": payload or zstandard.compress(pack(self._entries())),
            f"info-{self.stem}.tar.zst": zstandard.compress(pack({name: File(each) for name, each in files.items()})),
        }
        return self.made(folder, f"{self.stem}.conda", zip_parts(parts))


def rows(count: int, **more: Any) -> bytes:
    before, after = json.dumps({"_path": "x/NUMBER", "path_type": "hardlink", **more}).split("NUMBER")
    entries = ",".join(f"{before}{number}{after}" for number in range(count))
    return b'{"paths_version":1,"paths":[' + entries.encode() + b"]}"


def empty_members(count: int) -> bytes:
    """A compressed tar of empty files `x/<number>`."""
    out = io.BytesIO()
    nameless = tarfile.TarInfo("")
    nameless.mtime = TIME
    block = nameless.tobuf(tarfile.USTAR_FORMAT)
    total = int(block[148:154], 8)
    with zstandard.ZstdCompressor().stream_writer(out, closefd=False) as file:
        for number in range(count):
            # the name and the sum of all bytes are all that differs: tarfile takes ten seconds for a million
            name = b"x/%d" % number
            file.write(b"%b%b%06o%b" % (name.ljust(100, b"\0"), block[100:148], total + sum(name), block[154:]))
        file.write(bytes(1024))
    return out.getvalue()


def squeezed(*pieces: tuple[bytes, int]) -> bytes:
    """Each piece so many times, compressed."""
    out = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(out, closefd=False) as file:
        for piece, count in pieces:
            for _ in range(count):
                file.write(piece)
    return out.getvalue()


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mtime = size, kind, TIME
    return info.tobuf(tarfile.USTAR_FORMAT)


def pax(kind: bytes, key: str, length: int) -> bytes:
    record = f" {key}=".encode() + b"v" * length + b"\n"
    record = str(len(record) + 7).encode().rjust(7, b"0") + record
    return header("pax", len(record), kind) + record + bytes(-len(record) & 511)


PAYLOAD_END = bytes(1024)
ONE = {"x/0": b""}
MIB = bytes(1 << 20)


def nested_lists(folder: Path, package: Hostile) -> Made:
    return package.archive(folder, paths__json=b'{"paths_version":1,"paths":[' + b"[]," * 20_000_000 + b"[]]}")


def nested_objects(folder: Path, package: Hostile) -> Made:
    return package.archive(folder, paths__json=b'{"paths_version":1,"paths":[' + b'{"a":1},' * 10_000_000 + b"{}]}")


def deep_lists(folder: Path, package: Hostile) -> Made:
    return package.archive(folder, paths__json=b'{"paths_version":1,"paths":' + b"[" * 9_000_000 + b"]" * 9_000_000)


def many_rows(folder: Path, package: Hostile) -> Made:
    return package.archive(folder, payload=empty_members(1_000_000), paths__json=rows(1_000_000))


def long_path(folder: Path, package: Hostile) -> Made:
    path = "a/" * 20_000_000 + "b"
    return package.archive(folder, paths__json=json.dumps({"paths_version": 1, "paths": [{"_path": path}]}).encode())


def deep_directories(folder: Path, package: Hostile) -> Made:
    entries = [{"_path": f"{number}/" + "a/" * 500 + "b"} for number in range(30_000)]
    return package.archive(folder, paths__json=json.dumps({"paths_version": 1, "paths": entries}).encode())


def large_index(folder: Path, package: Hostile) -> Made:
    index = {**package.index(), "more": [""] * 10_000_000}
    return package.archive(folder, index__json=json.dumps(index).encode())


def many_entry_points(folder: Path, package: Hostile) -> Made:
    index = {**package.index(), "noarch": "python"}
    link = {"noarch": {"type": "python", "entry_points": [f"c{number} = m:f" for number in range(200_000)]}}
    return package.archive(folder, index__json=json.dumps(index).encode(), link__json=json.dumps(link).encode())


def listed_lines(folder: Path, package: Hostile) -> Made:
    package = Hostile(package.name, files=ONE, info={"paths.json": None})
    return package.archive(folder, files=b"\n" * 80_000_000)


def one_line(folder: Path, package: Hostile) -> Made:
    package = Hostile(package.name, files=ONE, info={"paths.json": None})
    return package.archive(folder, files=b"x/0\n", has_prefix=b"a " * 40_000_000)


def global_records(folder: Path, package: Hostile) -> Made:
    parts = [pax(tarfile.XGLTYPE, f"key{number}", 1_000_000) for number in range(1500)]
    return package.archive(folder, payload=squeezed(*((part, 1) for part in parts), (header("x/0") + PAYLOAD_END, 1)))


def records_before_a_member(folder: Path, package: Hostile) -> Made:
    parts = [pax(tarfile.XHDTYPE, f"key{number}", 1_000_000) for number in range(1500)]
    return package.archive(folder, payload=squeezed(*((part, 1) for part in parts), (header("x/0") + PAYLOAD_END, 1)))


def long_links(folder: Path, package: Hostile) -> Made:
    count = 1500
    parts = []
    for number in range(count):
        name = header(f"x/{number}", kind=tarfile.SYMTYPE)
        parts.append(pax(tarfile.XHDTYPE, "linkpath", 1_000_000) + name)
    listing = rows(count).replace(b"hardlink", b"softlink")
    return package.archive(
        folder, payload=squeezed(*((part, 1) for part in parts), (PAYLOAD_END, 1)), paths__json=listing
    )


def one_long_string(folder: Path, package: Hostile) -> Made:
    text = PLACEHOLDER.encode() * (1 << 13)
    size = 600 * len(text)
    listing = {"_path": "x/0", "file_mode": "binary", "prefix_placeholder": PLACEHOLDER}
    payload = squeezed((header("x/0", size), 1), (text, 600), (bytes(-size & 511) + PAYLOAD_END, 1))
    return package.archive(
        folder, payload=payload, paths__json=json.dumps({"paths_version": 1, "paths": [listing]}).encode()
    )


def long_placeholder(folder: Path, package: Hostile) -> Made:
    listing = {"_path": "x/0", "file_mode": "text", "prefix_placeholder": "p" * 90_000_000}
    return package.archive(folder, paths__json=json.dumps({"paths_version": 1, "paths": [listing]}).encode())


def every_file_patched(folder: Path, package: Hostile) -> Made:
    count = 60_000
    listing = rows(count, prefix_placeholder=PLACEHOLDER, file_mode="text")
    return package.archive(folder, payload=empty_members(count), paths__json=listing)


def wide_window(folder: Path, package: Hostile) -> Made:
    """A frame that says that it looks back 2 GiB."""
    return package.archive(folder, payload=b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00" * 100)


def bzip2_bomb(folder: Path, package: Hostile) -> Made:
    info = pack({name: File(each) for name, each in package.info_files().items()})[:-1024]
    info = info[: len(info) // 512 * 512].rstrip(b"\0")
    info += bytes(-len(info) & 511)
    bomb = bz2.compress(info + header("x/0", (8 << 30) - 1)) + bz2.compress(MIB * 64) * 200
    return package.made(folder, f"{package.stem}.tar.bz2", bomb)


def blank_variables(folder: Path, package: Hostile) -> Made:
    size = 2 << 30
    payload = squeezed((header("etc/conda/env_vars.d/a.json", size), 1), (b" " * (1 << 20), 2048), (PAYLOAD_END, 1))
    listing = {"paths_version": 1, "paths": [{"_path": "etc/conda/env_vars.d/a.json", "size_in_bytes": size}]}
    return package.archive(folder, payload=payload, paths__json=json.dumps(listing).encode())


def long_variable(folder: Path, package: Hostile) -> Made:
    content = json.dumps({"LONG": "x" * 100_000_000}).encode()
    return Package(package.name, files={"etc/conda/env_vars.d/a.json": content}).conda(folder)


REFUSED: list[tuple[Callable[[Path, Hostile], Made], str]] = [
    (nested_lists, "values; at most|max_paths"),
    (nested_objects, "values; at most|max_paths"),
    (deep_lists, "values; at most|nested|not JSON"),
    (many_rows, "max_paths|values; at most"),
    (long_path, "a path of 40000001 characters"),
    (deep_directories, "directories of its paths have more than"),
    (large_index, "info/index.json has .* bytes; at most"),
    (many_entry_points, "info/link.json has 200003 values"),
    (listed_lines, "max_paths"),
    (one_line, "has a line of 80000000 characters"),
    (long_links, "points to a path that is too long"),
    (one_long_string, "bytes shorter under another prefix"),
    (long_placeholder, "placeholder of x/0 has 90000000 characters"),
    (wide_window, "not sound zstandard data"),
    (bzip2_bomb, r"expands to more than the allowed \d+ bytes \(max_ratio\)"),
]
MADE: list[Callable[[Path, Hostile], Made]] = [
    every_file_patched,
    global_records,
    records_before_a_member,
    blank_variables,
    long_variable,
]


@contextlib.asynccontextmanager
async def attacked(folder: Path, make: Callable[[Path, Hostile], Made]) -> AsyncIterator[Callable[..., Any]]:
    """A channel with the package `bad` and one that is good; what is given builds one by its name, watched."""
    channel = folder / "channel"
    made = make(channel, Hostile("bad", files=ONE))
    assert made.path.stat().st_size <= LARGEST_PACKAGE
    url = await make_channel(channel, [Package("good", files={"share/good": b"good"})])
    # the ratio would stop most of them sooner, and an archive that is padded with noise has any
    settings: dict[str, Any] = {} if make is bzip2_bomb else {"max_ratio": 1e9}
    watch = Watch()
    async with open_service(folder / "data", url, **settings) as service:
        await service.build(spec_of(service, "good"))
        # as the server does when it starts; else the collector's walk over what made the package would be a stall
        rest_collector()
        async with watch.watching():
            yield lambda name: service.build(spec_of(service, name))
    assert watch.largest > 0
    assert watch.largest <= LARGEST_PROCESS, f"{watch.largest >> 20} MiB"
    assert watch.stall <= LONGEST_STALL, f"{watch.stall:.3f} s"


def names(makers: list[Any]) -> Iterator[str]:
    for each in makers:
        yield (each[0] if isinstance(each, tuple) else each).__name__


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=names(REFUSED))
async def test_is_refused_with_its_reason(make: Callable[[Path, Hostile], Made], reason: str, tmp_path: Path) -> None:
    async with attacked(tmp_path, make) as build:
        with pytest.raises(BuilderError, match=f"package bad-1.0-0 is refused: .*({reason})"):
            await build("bad")
        await build("good")


@pytest.mark.parametrize("make", MADE, ids=names(MADE))
async def test_is_made_within_bounds(make: Callable[[Path, Hostile], Made], tmp_path: Path) -> None:
    async with attacked(tmp_path, make) as build:
        assert await build("bad")


async def test_a_large_record_never_reaches_the_event_loop(tmp_path: Path) -> None:
    def large_record(folder: Path, package: Hostile) -> Made:
        return package.archive(folder, index__json=json.dumps({**package.index(), "license": "x" * 300_000}).encode())

    async with attacked(tmp_path, large_record) as build:
        with pytest.raises(BuilderError, match=r"package bad-1.0-0.conda is refused: its record .* has \d+ characters"):
            await build("bad")
        await build("good")
