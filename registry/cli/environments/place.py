"""Where environments are: what commands ask of the local store and of a server alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from registry.cli.environments.shown import (
        BuildQuery,
        EnvironmentQuery,
        ShownAlarm,
        ShownBuild,
        ShownEnvironment,
        ShownEvent,
        ShownPackage,
        Written,
    )


class Place(Protocol):
    """Everything raises ConderyError: EnvironmentUnknown and others of the store, or ServerRefused and NoAnswer."""

    @property
    def host(self) -> str:
        """The beginning of image names: `localhost:5000`."""
        ...

    @property
    def files(self) -> str:
        """The address below which files are: `http://localhost:5000/files`."""
        ...

    @property
    def waits(self) -> bool:
        """Whether a build is followed unless somebody says otherwise: one that this process works on."""
        ...

    @property
    def left(self) -> str:
        """What becomes of a build that this process does not work on any more, as a sentence without its full stop."""
        ...

    async def find_namespace(self) -> str:
        """The namespace of whoever names none."""
        ...

    async def ask(self, written: Written) -> int:
        """Ask for a build, of a new environment or of one that is there; return its id."""
        ...

    async def ask_again(self, build: int) -> int:
        """Have what a build was made of solved and built again; return the new build's id."""
        ...

    async def find(self, namespace: str, name: str) -> ShownEnvironment: ...

    async def list_environments(self, query: EnvironmentQuery) -> Sequence[ShownEnvironment]: ...

    async def list_alarms(self) -> Sequence[ShownAlarm]:
        """The current builds that hold what is denied now, the oldest alarm first."""
        ...

    async def find_build(self, build: int) -> ShownBuild: ...

    async def find_specification(self, build: ShownBuild) -> Mapping[str, Any]:
        """What a build was asked for: {channels, dependencies, variables, ...}, or {lockfile}."""
        ...

    async def list_builds(self, query: BuildQuery) -> tuple[Sequence[ShownBuild], int]:
        """The last ones, the newest first, and how many there are in all."""
        ...

    async def list_packages(self, build: ShownBuild) -> Sequence[ShownPackage]:
        """Of a complete build, for the first of its platforms."""
        ...

    async def set_current(self, namespace: str, name: str, build: int) -> None: ...

    async def describe(self, namespace: str, name: str, description: str) -> None: ...

    async def delete(self, namespace: str, name: str) -> None: ...

    async def cancel(self, build: int) -> None:
        """Raises BuildStateWrong or ServerRefused for one that has ended."""
        ...

    def read_log(self, build: int, *, follow: bool) -> AsyncIterator[str]:
        """The lines of a log as it is now, or with `follow` until the build has ended."""
        ...

    def read_events(self, build: int) -> AsyncIterator[ShownEvent]:
        """What happens to a build, from its beginning until it has ended."""
        ...
