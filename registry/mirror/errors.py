"""What can go wrong with another registry. Each text is for the person who pulls, and names the registry."""

from __future__ import annotations

from storage.errors import ConderyError


class NotMirrored(ConderyError):
    """A name under `mirror/` that stands for no registry that is mirrored here."""


class NothingMirrored(NotMirrored):
    def __init__(self) -> None:
        super().__init__("no other registry is mirrored here; the setting `mirrors` says which are")


class MirrorError(ConderyError):
    """Another registry did not give what was asked for."""

    def __init__(self, registry: str, reason: str) -> None:
        super().__init__(f"{registry} {reason}")
        self.registry = registry
        self.reason = reason


class UpstreamFailed(MirrorError):
    """It cannot be reached, refuses, or answers what cannot be used."""


class UpstreamLies(UpstreamFailed):
    """It sends what is not what was asked for, and would do so again."""


class UpstreamBroke(UpstreamFailed):
    """The connection broke or stalled; to go on where it did may work."""


class UpstreamSlow(MirrorError):
    """It has not answered in time. What was asked goes on."""

    def __init__(self, registry: str, seconds: float) -> None:
        super().__init__(registry, f"has not answered for {seconds:.0f} seconds; it is still being asked, try again")


class UpstreamLimits(MirrorError):
    """It has had too many requests; `retry_after` in seconds, where it told."""

    def __init__(self, registry: str, message: str, retry_after: float | None) -> None:
        super().__init__(registry, f"limits requests: {message}")
        self.retry_after = retry_after


class UpstreamLacks(MirrorError):
    """It says that there is no such thing."""

    def __init__(self, registry: str, what: str, message: str) -> None:
        super().__init__(registry, f"has no {what}: {message}")


class BlobFailed(MirrorError):
    """It does not give a blob, for whatever reason but a limit."""


class RepositoryLacking(UpstreamLacks):
    """It has no such repository."""


class BlobLacking(UpstreamLacks):
    """It has no such blob."""
