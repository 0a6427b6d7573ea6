"""What is announced about a build that has ended."""

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
    """A build of `repository` that took `seconds`. `failure` says why it made nothing."""

    id: str
    kind: str
    """`image`, or a file's name."""
    repository: str
    seconds: float
    failure: BuildFailed | None = None
    tag: str | None = None
    """The tag under which the result can be pulled for ever."""
    manifest: Descriptor | None = None
    """The image's manifest, in the form that most clients get."""


Announce = Callable[[EndedBuild], Record[None] | None]
"""Returns what to record in the transaction that ends a build."""


def read_end(row: BuildRow) -> CompletedBuild | BuildFailed:
    """Read how a build ended from its row."""
    return read_failure(row) if row.error_kind else CompletedBuild(row.id, row.made or None)


def read_failure(row: BuildRow) -> BuildFailed:
    """Read the failure from the row of a build that failed or was canceled."""
    if row.status == "CANCELED":
        return BuildCanceled(row.id, row.error_message or "")
    return BuildFailed(row.id, row.error_kind or "", row.error_message or "")
