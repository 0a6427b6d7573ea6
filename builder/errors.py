"""What can go wrong between an image name and its layers.

    ConderyError (storage.errors)
    └── BuilderError
        ├── InvalidImageName       the name or tag breaks the grammar
        ├── UnknownLock            a lock- tag that names no stored lock
        ├── SolveError
        │   ├── UnknownPackage
        │   ├── Unsatisfiable
        │   ├── SolveLimit         time or memory
        │   └── ChannelUnavailable
        ├── DownloadFailed
        ├── PackageRefused         an archive that is corrupt, lies, or must not be installed by copying
        ├── PathConflict           two packages that cannot be laid over each other
        ├── BaseUnavailable        the base layer cannot be had, or lacks the platform
        ├── WorkerLost             a worker process died, again and again
        └── BuildFailed            a build's recorded failure, as every later request meets it

Texts are read by the person who typed `docker pull`: they say what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.errors import ConderyError


class BuilderError(ConderyError):
    """The image cannot be made."""

    transient = False
    """Whether the same request may succeed soon without being changed; such a failure is forgotten sooner."""


class InvalidImageName(BuilderError):
    def __init__(self, item: str, reason: str, suggestion: str | None = None) -> None:
        hint = f"; did you mean {suggestion}?" if suggestion else ""
        super().__init__(f"{item!r}: {reason}{hint}")
        self.item = item
        self.reason = reason
        self.suggestion = suggestion


class UnknownLock(BuilderError):
    def __init__(self, tag: str, reason: str) -> None:
        super().__init__(f"{tag}: {reason}")
        self.tag = tag


class SolveError(BuilderError):
    """No lock can be made from the specs."""


class UnknownPackage(SolveError):
    def __init__(self, name: str, channels: Sequence[str], close: Sequence[str] = ()) -> None:
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        super().__init__(f"no package {name} in {', '.join(channels)}{hint}")
        self.name = name
        self.channels = tuple(channels)
        self.close = tuple(close)


class Unsatisfiable(SolveError):
    def __init__(self, platform: str, reason: str) -> None:
        super().__init__(f"cannot be solved for {platform}: {reason}")
        self.platform = platform
        self.reason = reason


class SolveLimit(SolveError):
    def __init__(self, what: str, limit: str) -> None:
        super().__init__(f"the solve needed more than the allowed {what} of {limit}; ask for fewer or narrower packages")
        self.what = what


class ChannelUnavailable(SolveError):
    transient = True

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"channel {channel} cannot be read: {reason}")
        self.channel = channel
        self.reason = reason


class DownloadFailed(BuilderError):
    transient = True

    def __init__(self, file_name: str, reason: str) -> None:
        super().__init__(f"package {file_name} cannot be downloaded: {reason}")
        self.file_name = file_name
        self.reason = reason


class PackageRefused(BuilderError):
    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"package {package} is refused: {reason}")
        self.package = package
        self.reason = reason


class PathConflict(BuilderError):
    def __init__(self, path: str, packages: Sequence[str]) -> None:
        super().__init__(
            f"{' and '.join(packages)} cannot be in one environment: {path} is a file in one and a directory in another"
        )
        self.path = path
        self.packages = tuple(packages)


class BaseUnavailable(BuilderError):
    transient = True

    def __init__(self, base: str, reason: str) -> None:
        super().__init__(f"base image {base}: {reason}")
        self.base = base
        self.reason = reason


class WorkerLost(BuilderError):
    transient = True

    def __init__(self, doing: str) -> None:
        super().__init__(f"the worker process died while {doing}; try again, and tell the administrator if it stays so")
        self.doing = doing


class BuildFailed(BuilderError):
    """A failure as it was recorded: the class name of the first error, and its text."""

    def __init__(self, build_id: str, kind: str, message: str) -> None:
        super().__init__(f"{message} (build {build_id})")
        self.build_id = build_id
        self.kind = kind
        self.message = message
