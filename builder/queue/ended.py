"""What is told of a build that has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from builder.errors import BuildCanceled, BuildFailed
from builder.queue.protocol import CompletedBuild
from storage.catalog.builds import BuildRow
from storage.digest import Descriptor
from storage.events.outbox import Record


@dataclass(frozen=True)
class EndedBuild:
    """A build of `repository`, which took `seconds`; `failure` says why it made nothing."""

    id: str
    kind: str
    """`image`, or the name of a file."""
    repository: str
    seconds: float
    failure: BuildFailed | None = None
    tag: str | None = None
    """By which what was made can be had for ever."""
    manifest: Descriptor | None = None
    """Of an image, in the form that most clients get."""


Announce = Callable[[EndedBuild], Record[None] | None]
"""Says what the transaction is to record in which a build is ended."""


def read_end(row: BuildRow) -> CompletedBuild | BuildFailed:
    """How a build ended, by the row of one that has."""
    return read_failure(row) if row.error_kind else CompletedBuild(row.id, row.made or None)


def read_failure(row: BuildRow) -> BuildFailed:
    """Why, by the row of one that failed or was canceled."""
    if row.status == "CANCELED":
        return BuildCanceled(row.id, row.error_message or "")
    return BuildFailed(row.id, row.error_kind or "", row.error_message or "")
