"""The shapes of environments, specifications and builds. Times are UTC, without a zone as conda-store writes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from builder.environments.inputs.environment_file import LONGEST_NAME, NAME
from registry.api.schemas import ListedNamespace, Name
from registry.contract import Empty, Paged, Shape
from storage.environments.vocabulary import LARGEST_ID

Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?$")]
EnvironmentName = Annotated[str, Field(max_length=LONGEST_NAME, pattern=f"^{NAME.pattern}$")]
Status = Literal["QUEUED", "BUILDING", "COMPLETED", "FAILED", "CANCELED"]
ArtifactType = Literal[
    "DIRECTORY", "LOCKFILE", "LOGS", "YAML", "CONDA_PACK", "DOCKER_MANIFEST", "CONSTRUCTOR_INSTALLER"
]
BuildNumber = Annotated[int, Field(ge=1, le=LARGEST_ID)]


Searched = Annotated[str, Field(max_length=255, pattern=r"^[ -~]*$")]


class Environment(Shape):
    id: int
    namespace: ListedNamespace
    name: EnvironmentName
    current_build_id: int
    """The build that `latest` means; the first one from the start."""
    description: str
    repository: str
    """Where its images are, and the entity of rights on it."""
    last_build_id: int
    """The last build that was asked for, whatever became of it."""
    created_on: Time
    created_by: str
    solved_on: Time | None
    """When it was last solved by its schedule (`solve_every_hours`)."""
    solve_error: str | None
    """Why that failed; null if it did not, or if a build was asked for since. It is tried again at its next time."""


class Build(Shape):
    """As lists have it."""

    id: int
    environment_id: int
    status: Status
    status_info: str | None
    """Why it failed, or what is remarkable, in a sentence."""
    size: int
    """Bytes of its packages."""
    scheduled_on: Time
    started_on: Time | None
    ended_on: Time | None
    cause: Literal["REQUEST", "REBUILD", "WATCH", "SCHEDULE", "IMPORT"]
    created_by: str
    pulled_on: Time | None
    """When its image or one of its files was last pulled."""
    lock: str | None
    """The key of its lock: the `<hex>` of the tag `lock-<hex>`."""
    same_as: int | None
    """An earlier build that has the same lock."""


class CurrentEnvironment(Environment):
    current_build: Build
    """The build of `current_build_id`."""


class Specification(Shape):
    id: int
    name: str
    spec: dict[str, JsonValue]
    """`{name, prefix, channels, dependencies, variables}` and more that was written down, or `{lockfile}`."""
    sha256: str
    created_on: Time


class BuildArtifact(Shape):
    id: int
    artifact_type: ArtifactType
    key: str
    """Where it is: a path of this API, or for a DIRECTORY one on the server's disk."""


class WholeBuild(Build):
    specification: Specification
    packages: None
    """They have a list of their own, in pages."""
    build_artifacts: list[BuildArtifact]


class NewBuild(Shape):
    build_id: int


class NewSpecification(Shape):
    specification: str
    """An environment file, a lock of conda-lock's or pixi's, an explicit list, or a manifest of pixi's."""
    namespace: Name | None = None
    """Without it, one's primary one."""
    is_lockfile: bool | None = None
    """If true, nothing but a lock is taken."""
    environment_name: str | None = None
    """For what does not say it itself, such as a lock."""
    environment_description: str | None = None


class ChangedEnvironment(Shape):
    """At least one of them."""

    build_id: BuildNumber | None = None
    """The build to be the current one, an earlier or a later one."""
    description: Annotated[str, Field(max_length=10_000)] | None = None


class LockedPackages(Paged):
    search: Searched | None = None
    """A part of the name, whatever its case."""
    exact: Literal["true", "false", "1", "0", ""] | None = None
    """Whether `search` is the whole name."""
    build: Searched | None = None
    """A part of the build."""
    platform: Searched | None = None
    """Without it, the first of the lock."""
    sort_by: Literal["name", "channel", "version", ""] | None = None


class Log(Shape):
    follow: Literal["0", "1", ""] | None = None
    """1 for server-sent events as the log grows."""


class Environments(Paged):
    namespace: Searched | None = None
    name: Searched | None = None
    search: Searched | None = None
    """A part of the name or of the namespace, whatever its case."""
    status: Status | Empty | None = None
    """Of the current build."""
    packages: Annotated[list[Searched], Field(max_length=20)] | None = None
    """Names of packages, which the current build has all."""
    artifact: ArtifactType | Empty | None = None
    """What the current build has."""
    sort_by: Literal["id", "name", "namespace", ""] | None = None


class Builds(Paged):
    namespace: Searched | None = None
    name: Searched | None = None
    """Of the environment."""
    environment_id: BuildNumber | Empty | None = None
    status: Status | Empty | None = None
    packages: Annotated[list[Searched], Field(max_length=20)] | None = None
    artifact: ArtifactType | Empty | None = None
    sort_by: Literal["id", "scheduled_on", "started_on", "ended_on", ""] | None = None


class Alarm(Shape):
    """A current build that holds what the rules of now refuse."""

    namespace: Name
    environment: EnvironmentName
    build_id: BuildNumber
    reason: str
    since: Time


class Alarms(Paged):
    sort_by: Literal["namespace", "environment", "since", ""] | None = None


class WatchedFile(Shape):
    """A file on the server that is watched."""

    path: str
    """Below the directory that is watched, with its name."""
    namespace: Name
    environment: EnvironmentName | None
    """Null while no content of it could be read."""
    sha256: str | None
    """Of the content that was built last."""
    build_id: BuildNumber | None
    error: str | None
    """Why the content of now is not built."""
    changed_on: Time
    gone_on: Time | None
    """Since when the file is gone; its environment stays."""


class WatchedFiles(Paged):
    sort_by: Literal["namespace", "path", "environment", "changed_on", ""] | None = None
