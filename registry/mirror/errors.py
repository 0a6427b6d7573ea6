"""What can go wrong with another registry. Each message is for the person who pulls, and names the registry."""

from __future__ import annotations

from collections.abc import Collection

from storage.errors import ConderyError
from storage.text import Sent, hide

LONGEST_REASON = 450
"""Characters; another registry's words are a part of many."""


class NotMirrored(ConderyError):
    """A name under `mirror/` that belongs to no registry mirrored here."""


class NothingMirrored(NotMirrored):
    def __init__(self) -> None:
        super().__init__("no other registry is mirrored here; the setting `mirrors` lists them")


class MirrorError(ConderyError):
    """Another registry did not deliver what was requested."""

    def __init__(self, registry: str, reason: str) -> None:
        super().__init__(f"{registry} {reason}")
        self.registry = registry
        self.reason = reason

    def make_presentable(self, sent: Collection[Sent]) -> None:
        """Leave nothing of what the registry was sent, which it may have repeated; no control characters, no end."""
        reason = "".join(each if each.isprintable() else " " for each in hide(self.reason, sent)[:LONGEST_REASON])
        self.reason = reason.strip()
        self.args = (f"{self.registry} {self.reason}",)


class UpstreamFailed(MirrorError):
    """It cannot be reached, refuses, or gives an answer that cannot be used."""


class UpstreamLies(UpstreamFailed):
    """It sends something else than what was requested, and would do so again."""


class UpstreamBroke(UpstreamFailed):
    """The connection broke or stalled; resuming may work."""


class UpstreamSlow(MirrorError):
    """It has not answered in time. The request goes on."""

    def __init__(self, registry: str, seconds: float) -> None:
        super().__init__(registry, f"has not answered for {seconds:.0f} seconds; the request goes on, so try again")


class UpstreamLimits(MirrorError):
    """It got too many requests; `retry_after` is in seconds, if it gave a time."""

    def __init__(self, registry: str, message: str, retry_after: float | None) -> None:
        super().__init__(registry, f"limits requests: {message}")
        self.retry_after = retry_after


class UpstreamLacks(MirrorError):
    """It says that this does not exist."""

    def __init__(self, registry: str, what: str, message: str) -> None:
        super().__init__(registry, f"has no {what}: {message}")


class BlobFailed(MirrorError):
    """It does not deliver a blob, for any reason but a limit."""


class RepositoryLacking(UpstreamLacks):
    """It has no such repository."""


class BlobLacking(UpstreamLacks):
    """It has no such blob."""
