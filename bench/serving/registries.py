"""condery as a registry beside the reference registry: Debian's 2.8, and distribution 3.x built with Go.

All are real servers over their own directories in one file system, and their content was pushed over HTTP. The peers of
a row are measured in turn. Unless a row says otherwise, each server has one core and the client another.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.row import Row
from bench.serving.contenders import DEBIAN, REPOSITORY, THREE, Contender, contenders, peers
from bench.serving.load import CORES, ab_head, in_turn, on_core, this_process_on_core, wrk
from bench.serving.pushing import Pusher, digest_of
from bench.serving.registry_lists import measure_lists
from bench.serving.registry_memory import measure_memory
from storage.oci import OCI_MANIFEST

PUSH_MUST = 1.0
MANIFEST_MUST = 1.5
HEAD_MUST = 1.0
BLOB_MUST = 0.9

BLOB_SIZE = 100 << 20
LAYERS = 8
# without this header the reference registry does not serve OCI manifests
ACCEPT = f"Accept: {OCI_MANIFEST}"


def measure(*, short: bool = False) -> list[Row]:
    """All rows of this module; a missing program is printed and left out."""
    programs = peers(build=not short)
    return [
        *measure_push(programs, short=short),
        *measure_reads(programs, short=short),
        *measure_manifests(programs, short=short),
        *measure_lists(short=short),
        *measure_memory(programs, short=short),
    ]


def measure_push(programs: dict[str, Path], *, short: bool) -> list[Row]:
    """POST and PUT of a new blob of 100 MiB each time: bytes per second."""
    if not programs:
        return []
    with contenders(programs, on_core(0), 1) as found, this_process_on_core(-1):
        values = in_turn([partial(_push, each) for each in found], 1 if short else 7)
    return [_row("push of 100 MiB, POST and PUT", [value / 1e6 for value in values], "MB/s", PUSH_MUST, found)]


def _push(contender: Contender) -> float:
    content = secrets.token_bytes(BLOB_SIZE)
    digest = digest_of(content)
    # do not wait for what others have left to be written
    os.sync()
    with Pusher(contender.port) as pusher:
        return BLOB_SIZE / pusher.blob(REPOSITORY, content, digest)


def measure_reads(programs: dict[str, Path], *, short: bool) -> list[Row]:
    """HEAD of a blob with ab, GET of a 100 MiB blob with wrk."""
    if not programs:
        return []
    content = secrets.token_bytes(BLOB_SIZE)
    blob = f"blobs/{digest_of(content)}"
    with contenders(programs, on_core(0), 1) as found:
        for each in found:
            with Pusher(each.port) as pusher:
                pusher.blob(REPOSITORY, content, digest_of(content))
        rows = []
        if shutil.which("ab"):
            head = partial(ab_head, connections=16, seconds=1 if short else 3)
            values = in_turn([partial(head, each.url(blob)) for each in found], 1 if short else 5)
            rows.append(_row("blob HEAD, 16 connections", values, "requests/s", HEAD_MUST, found))
        else:
            print("ab is not installed: blob HEAD is not measured")
        for connections in (1, 4) if shutil.which("wrk") else ():
            get = partial(_wrk, figure="Transfer/sec", connections=connections, seconds=1 if short else 3)
            values = in_turn([partial(get, each.url(blob)) for each in found], 1 if short else 5)
            name = f"blob GET, 100 MiB, {_connections(connections)}"
            rows.append(_row(name, [value / 1e6 for value in values], "MB/s", BLOB_MUST, found))
    return rows


def measure_manifests(programs: dict[str, Path], *, short: bool) -> list[Row]:
    """GET by tag and by digest on 1, 16 and 64 connections: one process on one core, then two on all cores."""
    if not shutil.which("wrk"):
        print("wrk is not installed: manifests are not measured")
        return []
    peer = THREE if THREE in programs else DEBIAN
    if peer not in programs:
        return []
    rows = []
    layers = [secrets.token_bytes(1000) for _ in range(LAYERS)]
    for processes, where in ((1, "one core"), (2, f"{len(CORES)} cores")):
        pinned = processes == 1
        with contenders({peer: programs[peer]}, on_core(0) if pinned else [], processes) as found:
            for each in found:
                with Pusher(each.port) as pusher:
                    digest = pusher.image(REPOSITORY, "latest", layers)
            for kind, reference in (("tag", "latest"), ("digest", digest)):
                for connections in (16,) if short else (1, 16, 64):
                    get = partial(_wrk, connections=connections, seconds=1 if short else 2, pinned=pinned)
                    urls = [each.url(f"manifests/{reference}") for each in found]
                    values = in_turn([partial(get, url) for url in urls], 1 if short else 5)
                    name = f"manifest GET by {kind}, {_connections(connections)}, {where}"
                    rows.append(_row(name, values, "requests/s", MANIFEST_MUST, found))
    return rows


def _wrk(url: str, *, figure: str = "Requests/sec", connections: int, seconds: int, pinned: bool = True) -> float:
    return wrk(url, figure, connections=connections, seconds=seconds, headers=[ACCEPT], pinned=pinned)


def _connections(number: int) -> str:
    return "1 connection" if number == 1 else f"{number} connections"


def _row(name: str, values: Sequence[float], unit: str, must: float, found: Sequence[Contender]) -> Row:
    """A row beside the fastest peer; the note names the others."""
    ours, *others = values
    by_name = {contender.name: value for contender, value in zip(found[1:], others, strict=True)}
    quickest = max(by_name, key=lambda each: by_name[each])
    note = ", ".join(f"{each}: {value:,.0f}" for each, value in by_name.items() if each != quickest)
    return Row(name, ours, unit, must, "at least", quickest, by_name[quickest], note)
