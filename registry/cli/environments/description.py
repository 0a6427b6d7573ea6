"""An environment or a build with all that is to be said of it, for `show`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.artifacts.artifact import ARTIFACTS
from registry.cli.environments.changes import Changes, compare
from registry.cli.environments.place import Place
from registry.cli.environments.shown import COMPLETED, BuildQuery, ShownBuild, ShownEnvironment, ShownPackage

MOST_BUILDS = 1000
"""How far back the build before one is looked for."""


@dataclass(frozen=True)
class DescribedBuild:
    build: ShownBuild
    changes: Changes | None
    """From the complete build before it; None if there is none, or it made nothing."""
    packages: Sequence[ShownPackage] = ()
    specification: Mapping[str, Any] = field(default_factory=dict)
    """What it was asked for."""

    def to_json(self) -> dict[str, Any]:
        return {**self.build.to_json(), "changes": self.changes.to_json() if self.changes else None}


@dataclass(frozen=True)
class DescribedEnvironment:
    environment: ShownEnvironment
    builds: Sequence[DescribedBuild]
    """The last ones, the newest first."""
    count: int
    current: ShownBuild
    image: str
    """Its reference without a tag."""
    files: dict[str, str]
    """Addresses by names, if the current build is complete."""
    specification: Mapping[str, Any]
    """What the current build was asked for."""

    def to_json(self) -> dict[str, Any]:
        return {
            **self.environment.to_json(),
            "current": self.current.to_json(),
            "image": self.image,
            "files": self.files,
            "specification": dict(self.specification),
            "builds": [each.to_json() for each in self.builds],
            "count": self.count,
        }


async def describe_environment(place: Place, environment: ShownEnvironment, limit: int) -> DescribedEnvironment:
    # the one before the last that is shown says what that one changed
    query = BuildQuery(environment.namespace, environment.name, limit=limit + 1)
    builds, count = await place.list_builds(query)
    complete = [each for each in builds if each.is_complete]
    packages = {each.id: await place.list_packages(each) for each in complete}
    changes = {
        each.id: compare(earlier.id, packages[earlier.id], packages[each.id])
        for each, earlier in itertools.pairwise(complete)
    }
    current = next((each for each in builds if each.id == environment.current_build), None)
    current = current or await place.find_build(environment.current_build)
    image = f"{place.host}/{environment.repository}"
    return DescribedEnvironment(
        environment,
        [DescribedBuild(each, changes.get(each.id), packages.get(each.id, ())) for each in builds[:limit]],
        count,
        current,
        image,
        _list_files(place, environment.repository, "latest") if current.is_complete else {},
        await place.find_specification(current),
    )


async def describe_build(place: Place, build: ShownBuild) -> DescribedBuild:
    packages = await place.list_packages(build) if build.is_complete else ()
    earlier = await _find_before(place, build) if build.is_complete else None
    changes = compare(earlier.id, await place.list_packages(earlier), packages) if earlier else None
    return DescribedBuild(build, changes, packages, await place.find_specification(build))


async def _find_before(place: Place, build: ShownBuild) -> ShownBuild | None:
    namespace, _, name = build.environment.partition("/")
    builds, _ = await place.list_builds(BuildQuery(namespace, name, COMPLETED, MOST_BUILDS))
    return next((each for each in builds if each.id < build.id), None)


def _list_files(place: Place, repository: str, tag: str) -> dict[str, str]:
    return {name: f"{place.files}/{repository}/{tag}/{name}" for name in ARTIFACTS}
