"""What can go wrong between an image name and its layers.

    ConderyError (storage.errors)
    ├── SearchUnavailable          the packages of no channel can be searched
    │   └── SearchPreparing
    ├── SearchLimit                a search for packages took too long
    └── BuilderError
        ├── InvalidImageName       the name or tag breaks the grammar
        ├── InputInvalid           a file that somebody wrote is no environment, or no lock
        ├── UnknownLock            a lock- tag that names no stored lock
        ├── SolveError
        │   ├── UnknownPackage
        │   ├── Unsatisfiable
        │   ├── SolveLimit         time or memory
        │   ├── ChannelUnavailable
        │   ├── ChannelNotAllowed  a channel that the settings do not allow
        │   ├── ChannelRefused     its index is larger, or takes more memory, than allowed
        │   ├── RequirementRefused  a PyPI requirement that no wheel can fulfil here
        │   ├── IndexUnavailable   an index of PyPI packages cannot be read
        │   ├── IndexNotAllowed    one that the settings do not allow
        │   └── IndexRefused       one whose answers are larger than allowed, or wrong
        ├── DownloadFailed
        ├── PackageRefused         an archive that is corrupt or forged, or cannot be installed by copying
        ├── PathConflict           two packages that cannot be installed together
        ├── UnknownArtifact        no file of this name exists beside an image
        ├── EnvironmentUnusable    an environment that cannot be built as it is written down
        ├── FormatUnsuitable       a lock that a file format cannot express
        ├── ArchiveFailed          the environment's archive cannot be packed
        ├── LoginsFileUnusable     the credentials file cannot be used
        ├── BaseUnavailable        the base layer is unavailable, or lacks the platform
        ├── PrefixUnsuitable       the environment cannot be at this prefix
        ├── DirectoryUnsuitable    a name that no directory can have
        ├── RemoteUnavailable      another registry cannot be reached, or refuses
        ├── PublishFailed          a finished image cannot be written or pushed to its target
        ├── StageLimit             a stage of the build took too long
        ├── PolicyRefusal          the rules of the server or of a namespace forbid it
        ├── PolicyUnavailable      the rules cannot be read, so nothing is allowed
        ├── TooManyBuilds          the caller, or all together, have too many builds under way
        │   └── TooManyNewBuilds
        ├── WorkerLost             a worker process died in every attempt
        ├── BuildGivenUp           the server itself died in every attempt
        ├── MemoryLimit            work that needs more memory than a worker may have
        ├── SampleChannelFailed    the sample channel cannot be made on this machine
        │   └── WheelsUnavailable
        └── BuildFailed            a build's recorded failure, as later requests get it
            └── BuildCanceled      somebody stopped it before it was done

The person who typed `docker pull` reads these texts: they say what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.errors import ConderyError, quote
from storage.suggestions import did_you_mean

LONGEST_REASON = 1000
"""Characters of a reason that quotes external content."""


class BuilderError(ConderyError):
    """The image cannot be made."""

    transient = False
    """Whether the same request may soon succeed unchanged. Such a failure is forgotten sooner."""


class InvalidImageName(BuilderError):
    is_mistake = True

    def __init__(self, item: str, reason: str, suggestion: str | None = None) -> None:
        hint = f"; did you mean {suggestion}?" if suggestion else ""
        super().__init__(f"{item!r}: {reason}{hint}")
        self.item = item
        self.reason = reason
        self.suggestion = suggestion


class InputInvalid(BuilderError):
    """`path` leads to the field, such as `dependencies[2]`; empty for the whole file. `reason` says what to do."""

    is_mistake = True

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class UnknownLock(BuilderError):
    def __init__(self, tag: str, reason: str) -> None:
        super().__init__(f"{tag}: {reason}")
        self.tag = tag


class SolveError(BuilderError):
    """No lock can be made from the specs."""


class UnknownPackage(SolveError):
    def __init__(self, name: str, channels: Sequence[str], close: Sequence[str] = (), platform: str = "") -> None:
        where = f" for {platform}" if platform else ""
        super().__init__(f"no package {name}{where} in {', '.join(channels)}{did_you_mean(close)}")
        self.name = name
        self.channels = tuple(channels)
        self.close = tuple(close)
        self.platform = platform


class Unsatisfiable(SolveError):
    def __init__(self, platform: str, reason: str) -> None:
        super().__init__(f"cannot be solved for {platform}: {reason}")
        self.platform = platform
        self.reason = reason


class SolveLimit(SolveError):
    """The setting `setting` allows `limit` of `what`. `channels` are those of the spec."""

    def __init__(self, what: str, limit: str, setting: str, channels: Sequence[str] = ()) -> None:
        where = f" with {', '.join(channels)}" if channels else ""
        super().__init__(
            f"the solve{where} needed more than the {what} of {limit} that the setting {setting} allows; "
            "ask for fewer or narrower packages"
        )
        self.what = what
        self.limit = limit
        self.setting = setting
        self.channels = tuple(channels)


class ChannelUnavailable(SolveError):
    transient = True

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"channel {channel} cannot be read: {reason}")
        self.channel = channel
        self.reason = reason


class ChannelNotAllowed(SolveError):
    def __init__(self, channel: str) -> None:
        super().__init__(
            f"channel {channel} is not allowed here: the server's administrator must add it to the setting "
            "allowed_channels"
        )
        self.channel = channel


class ChannelRefused(SolveError):
    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"channel {channel} is refused: {reason}")
        self.channel = channel
        self.reason = reason


class RequirementRefused(SolveError):
    """`requirement` is a name, or a requirement; `reason` says what to do."""

    def __init__(self, requirement: str, reason: str) -> None:
        if len(reason) > LONGEST_REASON:
            reason = reason[:LONGEST_REASON] + "..."
        super().__init__(f"PyPI package {requirement}: {reason}")
        self.requirement = requirement
        self.reason = reason


class IndexUnavailable(SolveError):
    transient = True

    def __init__(self, index: str, reason: str) -> None:
        super().__init__(f"index {index} cannot be read: {reason}")
        self.index = index
        self.reason = reason


class IndexNotAllowed(SolveError):
    def __init__(self, index: str, reason: str = "") -> None:
        super().__init__(
            f"index {index} is not allowed here: "
            + (reason or "the server's administrator must add it to the setting allowed_indexes")
        )
        self.index = index
        self.reason = reason


class IndexRefused(SolveError):
    def __init__(self, index: str, reason: str) -> None:
        super().__init__(f"index {index} is refused: {reason}")
        self.index = index
        self.reason = reason


class DownloadFailed(BuilderError):
    transient = True

    def __init__(self, file_name: str, reason: str) -> None:
        super().__init__(f"package {file_name} cannot be downloaded: {reason}")
        self.file_name = file_name
        self.reason = reason


class PackageRefused(BuilderError):
    def __init__(self, package: str, reason: str) -> None:
        # it may quote the package, whose names can have a megabyte
        if len(reason) > LONGEST_REASON:
            reason = reason[:LONGEST_REASON] + "..."
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


class UnknownArtifact(BuilderError):
    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no file {name!r} exists beside an image; the files are {', '.join(known)}")
        self.name = name
        self.known = tuple(known)


class EnvironmentUnusable(BuilderError):
    """An environment cannot be built as it is written down."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FormatUnsuitable(BuilderError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be written: {reason}; explicit.txt has no such limit")
        self.name = name
        self.reason = reason


class ArchiveFailed(BuilderError):
    def __init__(self, platform: str, reason: str) -> None:
        super().__init__(f"the archive for {platform} cannot be packed: {reason}")
        self.platform = platform
        self.reason = reason


class LoginsFileUnusable(BuilderError):
    """Raised when the server starts, never by a pull."""

    is_mistake = True

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"credentials file {path}: {reason}")
        self.path = path
        self.reason = reason


class BaseUnavailable(BuilderError):
    transient = True

    def __init__(self, base: str, reason: str) -> None:
        super().__init__(f"base image {base}: {reason}")
        self.base = base
        self.reason = reason


class PrefixUnsuitable(BuilderError):
    def __init__(self, prefix: str, reason: str) -> None:
        super().__init__(f"the prefix {prefix!r} (setting prefix) cannot be used: {reason}")
        self.prefix = prefix
        self.reason = reason


class DirectoryUnsuitable(BuilderError):
    """The environment `name` cannot be a directory below environments_directory."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{quote(name)} cannot be on disk: {reason}")
        self.name = name
        self.reason = reason


class RemoteUnavailable(BuilderError):
    transient = True

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"{reference}: {reason}")
        self.reference = reference
        self.reason = reason


class PublishFailed(BuilderError):
    def __init__(self, target: str, reason: str) -> None:
        super().__init__(f"cannot publish to {target}: {reason}")
        self.target = target
        self.reason = reason


class WorkerLost(BuilderError):
    transient = True

    def __init__(self, doing: str) -> None:
        super().__init__(
            f"the worker process died while {doing}; try again, and tell the administrator if it happens again"
        )
        self.doing = doing


class BuildGivenUp(BuilderError):
    transient = True

    def __init__(self, deaths: int) -> None:
        super().__init__(
            f"the server stopped {deaths} times while it worked on this build, so the build is not begun again by "
            "itself; ask for it again, and tell the administrator: the server's log and the system's say why it stopped"
        )
        self.deaths = deaths


class MemoryLimit(BuilderError):
    def __init__(self, doing: str, limit: int) -> None:
        super().__init__(
            f"{doing} needs more than the {limit >> 20} MiB that a process may use (worker_memory); ask for fewer or "
            "smaller packages, or ask the administrator for more"
        )
        self.doing = doing
        self.limit = limit


class StageLimit(BuilderError):
    """What was done so far is kept, so that another attempt resumes there."""

    transient = True

    def __init__(self, stage: str, seconds: float, setting: str) -> None:
        super().__init__(
            f"{stage} took more than the allowed {seconds:g} s (setting {setting}); what is done is kept, so ask again"
        )
        self.stage = stage
        self.seconds = seconds
        self.setting = setting


class PolicyRefusal(BuilderError):
    """`reason` is a whole sentence: what is refused, by which rule, where that is set, and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PolicyUnavailable(BuilderError):
    """What may have been allowed is refused: rules that cannot be read must not be rules that allow everything."""

    transient = True

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} cannot be used, so nothing can be built or served by tag: {reason}; ask the administrator"
        )
        self.what = what
        self.reason = reason


class TooManyBuilds(BuilderError):
    """Nothing was started, and nothing is remembered."""

    transient = True
    retry_after = 5
    """Seconds."""

    def __init__(self, count: int, most: int, setting: str, caller: str = "", message: str = "") -> None:
        whose = f"{count} builds for {caller}" if caller else f"{count} builds"
        super().__init__(
            message
            or f"{whose} are running or waiting; the maximum is {most} (setting {setting}); ask again when some have "
            "ended"
        )
        self.count = count
        self.most = most
        self.setting = setting
        self.caller = caller


class TooManyNewBuilds(TooManyBuilds):
    """As many were begun for the caller lately as a minute may have."""

    def __init__(self, most: int, caller: str, retry_after: int) -> None:
        message = (
            f"{most} builds were begun for {caller} within a minute, which is the maximum (setting builds_per_minute); "
            f"ask again in {retry_after} seconds"
        )
        super().__init__(most, most, "builds_per_minute", caller, message)
        self.retry_after = retry_after


class BuildFailed(BuilderError):
    """A failure as recorded: the class name of the first error, and its text."""

    def __init__(self, build_id: str, kind: str, message: str) -> None:
        super().__init__(f"{message} (build {build_id})")
        self.build_id = build_id
        self.kind = kind
        self.message = message


class BuildCanceled(BuildFailed):
    """Somebody stopped the build before it was done. `message` is what they said."""

    def __init__(self, build_id: str, message: str) -> None:
        super().__init__(build_id, type(self).__name__, message)


class SampleChannelFailed(BuilderError):
    """The sample channel cannot be made on this machine. `condery sample-channel` raises it; a pull never does."""


class SearchUnavailable(ConderyError):
    """`reasons` by channel."""

    retry_after = 60
    """Seconds."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        told = "; ".join(f"{channel}: {reason}" for channel, reason in reasons.items())
        super().__init__(f"packages cannot be searched: {told}"[:LONGEST_REASON])
        self.reasons = dict(reasons)


class SearchPreparing(SearchUnavailable):
    """A channel that nobody has searched before is being read."""

    retry_after = 10


class SearchLimit(ConderyError):
    retry_after = 10
    """Seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the search took more than {seconds:g} s; search for a longer part of a name")
        self.seconds = seconds
