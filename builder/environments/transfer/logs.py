"""Logs in archives of environments: as they are stored, and of those of others only what a log of ours could say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from builder.environments.transfer.layout import Layout
from builder.environments.transfer.vocabulary import LARGEST_LOG
from builder.errors import InputInvalid
from storage.clock import SKEW_SECONDS
from storage.digest import Descriptor
from storage.environments.log_record import MOST_RECORD, clean_record
from storage.environments.logs import Logs
from storage.environments.vocabulary import EnvironmentBuild

LAST_SECONDS = 2.0
"""For what was written just before a build ended."""
LOOK_SECONDS = 0.05
ENDED_SECONDS = 60.0
"""After so long nobody writes what a build has said at its end."""


async def read_log(logs: Logs, build: EnvironmentBuild) -> bytes:
    """The whole log of a build that has ended; empty if there is none."""
    deadline = time.monotonic() + LAST_SECONDS
    while (state := await logs.find(build.id)) is not None:
        is_old = build.ended is None or time.time() - build.ended > ENDED_SECONDS
        if state.ended or is_old or time.monotonic() > deadline:
            break
        await asyncio.sleep(LOOK_SECONDS)
    found, position = bytearray(), 0
    while state is not None and position < state.size and (page := await logs.read(build.id, position)).content:
        found += page.content
        position = page.stop
    return bytes(found)


def clean_log(layout: Layout, exported: Descriptor) -> bytes:
    """The records of a log in an archive, without what no log of ours says. It takes up to seconds.

    Raises InputInvalid.
    """
    found, latest = bytearray(), time.time() + SKEW_SECONDS
    for line in _split(layout, exported):
        found += clean_record(line, latest) or b""
        if len(found) > LARGEST_LOG:
            raise InputInvalid("log", f"it has more than {LARGEST_LOG} bytes")
    return bytes(found)


def _split(layout: Layout, exported: Descriptor) -> Iterator[bytes]:
    """The lines of a log, of which only one is in memory whose end is not known. Its digest is checked at the end."""
    rest = b""
    for chunk in layout.read_verified(exported):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) > MOST_RECORD:
            raise InputInvalid("log", f"it has a line of more than {MOST_RECORD} bytes, which no log has")
