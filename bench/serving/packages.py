"""Searches for packages over HTTP, in a channel with as many records as conda-forge has for one platform: 612,000.

The records are made here, the same ones each time: a few names with thousands of them, many with a handful.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from bench.row import Row
from bench.serving.load import on_core, this_process_on_core
from tests.support.server import Server

MUST_MS = 100
RECORDS = 612_000
SHARE = 0.57
"""Of the records, those of linux-64; the others are noarch."""
NAMES = 28_000
WORDS = (
    "py",
    "lib",
    "r-",
    "num",
    "perl-",
    "data",
    "io",
    "scikit-",
    "type",
    "net",
    "fast",
    "geo",
    "ml",
    "bio",
    "x",
    "q",
)
NUMPY = 1500
"""Records of numpy."""
BUILDS = 3
"""Records of a version."""
ROUNDS = 41
COLD_ROUNDS = 5
QUERIES = {
    "what the UI asks for while somebody types": "search=num&distinct_on=name&page=1&size=100",
    "the versions of a package": "search=numpy&exact=true&distinct_on=version&order=desc&sort_by=version",
    "a page of all packages": "page=1&size=100",
    "the last page of all packages": "page={last}&size=100",
    "all packages by version": "page=1&size=100&sort_by=version&order=desc",
    "builds of a python": "search=py&build=py312&distinct_on=name&page=1&size=100",
}
"""By what is measured."""


def measure(*, short: bool = False) -> list[Row]:
    """The median of each search; the note says how long it takes when its index has to be read from the disk."""
    records = RECORDS // 100 if short else RECORDS
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        channel = _make_channel(directory / "channel", records)
        flags = ("--channels", channel.as_uri(), "--base", "scratch", "--workers", "1", "--repodata-refresh", "0")
        server = Server(flags, directory / "data", directory / "log", prefix=tuple(on_core(0)))
        server.start()
        queries = {name: query.format(last=records // 100) for name, query in QUERIES.items()}
        try:
            made = _wait_for_index(server.port, records)
            index = directory / "data" / "search"
            with this_process_on_core(-1):
                rows = [_row(server.port, index, name, query, records) for name, query in queries.items()]
        finally:
            server.kill()
        size = sum(path.stat().st_size for path in (directory / "data" / "search").iterdir()) / 1e6
        note = f"in a process of its own; {size:.0f} MB on disk"
        return [*rows, Row(f"making the index of {records:,} records", made, "s", 300, "at most", note=note)]


def _row(port: int, index: Path, name: str, query: str, records: int) -> Row:
    cold = []
    for _ in range(COLD_ROUNDS):
        _forget(index)
        cold.append(_ask(port, query))
    times = [_ask(port, query) for _ in range(ROUNDS)]
    note = f"{query}; slowest {max(times):.1f} ms; index not in the page cache: {statistics.median(cold):.1f}"
    return Row(f"search in {records:,}: {name}", statistics.median(times), "ms", MUST_MS, "at most", note=note)


def _ask(port: int, query: str) -> float:
    """Milliseconds of a search that finds something."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    # the time of the connection is no part of the search
    connection.connect()
    begun = time.perf_counter()
    connection.request("GET", f"/api/v1/package/?{query}")
    answer = connection.getresponse()
    body = answer.read()
    taken = (time.perf_counter() - begun) * 1000
    connection.close()
    document = json.loads(body)
    if answer.status != 200 or not document["data"]:
        raise RuntimeError(f"{query}: {answer.status} {body[:500]!r}")
    return taken


def _wait_for_index(port: int, records: int) -> float:
    """Seconds until the first search of all is answered."""
    begun = time.perf_counter()
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/api/v1/package/?page=1&size=1")
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status == 200:
            break
        if answer.status != 503:
            raise RuntimeError(f"{answer.status} {body[:500]!r}")
    if (found := json.loads(body)["count"]) != records:
        raise RuntimeError(f"{found} of {records} records were found")
    return time.perf_counter() - begun


def _forget(directory: Path) -> None:
    """Take the indexes out of the page cache."""
    os.sync()
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _make_channel(directory: Path, count: int) -> Path:
    records = _make_records(count)
    for platform, share in (("linux-64", round(count * SHARE)), ("noarch", count)):
        (directory / platform).mkdir(parents=True)
        with (directory / platform / "repodata.json").open("w") as file:
            file.write(f'{{"info":{{"subdir":"{platform}"}},"packages":{{}},"packages.conda":{{')
            separator = ""
            for record in islice(records, share):
                name = f"{record['name']}-{record['version']}-{record['build']}.conda"
                file.write(f"{separator}{json.dumps(name)}:{json.dumps({**record, 'subdir': platform})}")
                separator = ",\n"
            file.write('},"repodata_version":1}')
    return directory


def _make_records(count: int) -> Iterator[Mapping[str, Any]]:
    """Records of `count` packages, of numpy first."""
    numpy = min(NUMPY, count // 10)
    yield from (_make_record("numpy", number) for number in range(numpy))
    names = max(1, NAMES * count // RECORDS)
    weights = [(number + 40) ** -0.75 for number in range(names)]
    left, total = count - numpy, sum(weights)
    for number, weight in enumerate(weights):
        last = number == names - 1
        many = left if last else min(left, max(1, round((count - numpy) * weight / total)))
        yield from (_make_record(f"{WORDS[number % len(WORDS)]}{number:x}", each) for each in range(many))
        left -= many


def _make_record(name: str, number: int) -> dict[str, Any]:
    release, build = divmod(number, BUILDS)
    return {
        "name": name,
        "version": f"{1 + release // 40}.{release // 5 % 8}.{release % 5}",
        "build": f"py3{9 + number % 5}h{hashlib.md5(f'{name}{number}'.encode()).hexdigest()[:7]}_{build // 5}",
        "build_number": build // 5,
        "depends": ["libgcc >=13", "python >=3.9", "numpy >=1.22,<3"],
        "license": "BSD-3-Clause",
        "md5": hashlib.md5(f"{name} {number}".encode()).hexdigest(),
        "sha256": hashlib.sha256(f"{name} {number}".encode()).hexdigest(),
        "size": 10_000 + number,
        "timestamp": 1_600_000_000_000 + number * 10**7,
    }
