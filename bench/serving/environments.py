"""Pages of 10,000 environments and 100,000 builds over HTTP, on SQLite and on PostgreSQL, with every filter.

Each row is the worst of many questions: each filter and some of them together, in each order, from the first page to
the last. Of one question it is the median, and the note says which one was the worst.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.row import Row
from bench.serving.environment_rows import BUILDS, LARGE, NAMESPACES, fill
from bench.serving.load import on_core, this_process_on_core
from storage.database.engine import sqlite_url
from storage.layout import DataDirectory
from tests.support.server import Server
from tests.support.servers.postgres import is_installed, postgres

MUST_MS = 50
ENVIRONMENTS = 10_000
ROUNDS = 5
SIZE = 100

ENVIRONMENT_FILTERS = (
    "",
    f"namespace={LARGE}",
    "namespace=team0007",
    "name=analysis-77",
    "search=analysis",
    "search=SIS-99",
    "search=team0000",
    "status=COMPLETED",
    "status=FAILED",
    "artifact=DOCKER_MANIFEST",
    "artifact=DIRECTORY",
    "artifact=LOGS",
    "packages=python",
    "packages=python&packages=pip&packages=numpy",
    "packages=package7",
    "packages=rare",
    f"namespace={LARGE}&search=analysis&status=COMPLETED&packages=python&packages=numpy&artifact=YAML",
)
BUILD_FILTERS = (
    "",
    f"namespace={LARGE}",
    "namespace=team0007",
    f"namespace={LARGE}&name=analysis-77",
    "name=analysis-77",
    "environment_id=77",
    "status=COMPLETED",
    "status=FAILED",
    "status=QUEUED",
    "artifact=DOCKER_MANIFEST",
    "artifact=DIRECTORY",
    "artifact=LOGS",
    "packages=python",
    "packages=python&packages=pip&packages=numpy",
    "packages=package7",
    "packages=rare",
    f"namespace={LARGE}&packages=numpy",
    f"namespace={LARGE}&status=FAILED",
    f"namespace={LARGE}&status=COMPLETED&packages=python&packages=numpy&artifact=YAML",
)
ENVIRONMENT_SORTS = ("id", "name", "namespace")
BUILD_SORTS = ("id", "scheduled_on", "started_on", "ended_on")

ODD = ("team0*/analysis-*7*", "t*m*1/*", f"{LARGE}/*")
FEW = tuple(f"team{number:04}/*" for number in range(0, NAMESPACES, 20))
PEOPLE = {"everybody": ("*",), "somebody with odd patterns": ODD, "somebody with 100 namespaces": FEW}
"""Who asks, and what they may read."""


def measure(*, short: bool = False) -> list[Row]:
    """The worst of all questions about each list, by each of some people, on each database."""
    count = ENVIRONMENTS // 100 if short else ENVIRONMENTS
    rows = []
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        data = directory / "data"
        data.mkdir()
        fill(sqlite_url(DataDirectory(data).database), count)
        rows += _measure("SQLite", data, (), count, short=short)
        if is_installed():
            with postgres() as server:
                url = server.new_database()
                fill(url, count)
                rows += _measure("PostgreSQL", directory / "other", ("--database", url), count, short=short)
        else:
            print("PostgreSQL is not installed: lists are measured on SQLite alone")
    return rows


def _measure(database: str, data: Path, flags: Sequence[str], count: int, *, short: bool) -> list[Row]:
    rows = []
    sorts, rounds = (1, 2) if short else (None, ROUNDS)
    for who, patterns in PEOPLE.items():
        with _serving(data, flags, patterns) as server, this_process_on_core(-1):
            ask, where = partial(_ask_all, server.port, rounds), f"{who}, {database}"
            # those who see not all are asked less
            some = slice(None) if who == "everybody" else slice(None, None, 3)
            environments, builds = ENVIRONMENT_FILTERS[some], BUILD_FILTERS[some]
            rows.append(
                ask("environment/", environments, ENVIRONMENT_SORTS[:sorts], f"{count:,} environments, {where}")
            )
            rows.append(ask("build/", builds, BUILD_SORTS[:sorts], f"{count * BUILDS:,} builds, {where}"))
            if who == "everybody":
                rows.append(ask("namespace/", ("",), ("id", "name"), f"{NAMESPACES:,} namespaces, {database}"))
                rows.append(
                    _ask_worst(server.port, rounds, ["usage/"], f"use of {NAMESPACES:,} namespaces, {database}")
                )
    return rows


@contextlib.contextmanager
def _serving(data: Path, flags: Sequence[str], patterns: Sequence[str]) -> Iterator[Server]:
    bindings = [word for each in patterns for word in ("--anonymous-bindings", f"{each}=viewer")]
    options = (*flags, *bindings, "--base", "scratch", "--workers", "1", "--log-level", "error")
    server = Server(options, data, data.with_suffix(".log"), prefix=tuple(on_core(0)))
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _ask_all(port: int, rounds: int, path: str, filters: Sequence[str], sorts: Sequence[str], what: str) -> Row:
    questions = []
    for which in filters:
        _, count = _ask(port, f"{path}?{which}&page=1&size=1")
        last = max((count + SIZE - 1) // SIZE, 1)
        pages = dict.fromkeys((1, (last + 1) // 2, last))
        for sort, order, page in itertools.product(sorts, ("asc", "desc"), pages):
            questions.append(f"{path}?{which}&sort_by={sort}&order={order}&size={SIZE}&page={page}")
    return _ask_worst(port, rounds, questions, f"a page of {what}")


def _ask_worst(port: int, rounds: int, questions: Sequence[str], what: str) -> Row:
    times: dict[str, list[float]] = {question: [] for question in questions}
    # in turn, so that what else the machine does is in all alike
    for _ in range(rounds):
        for question, taken in times.items():
            taken.append(_ask(port, question)[0])
    medians = {question: statistics.median(taken) for question, taken in times.items()}
    worst = max(medians, key=lambda question: medians[question])
    usual = statistics.median(medians.values())
    note = f"the worst of {len(questions)}, which take {usual:.1f} ms; {worst}; at best {min(times[worst]):.1f} ms"
    return Row(what, medians[worst], "ms", MUST_MS, "at most", note=note)


def _ask(port: int, question: str) -> tuple[float, int]:
    """Milliseconds of a request, and how much there is in all."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    # the time of the connection is no part of the page
    connection.connect()
    begun = time.perf_counter()
    connection.request("GET", f"/api/v1/{question}")
    answer = connection.getresponse()
    body = answer.read()
    taken = (time.perf_counter() - begun) * 1000
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{question}: {answer.status} {body[:500]!r}")
    return taken, json.loads(body).get("count", 0)
