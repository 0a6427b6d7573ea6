"""GET build/{id}/difference/: what a build changed against the one before, or against another of its environment."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from builder.environments.difference import compare
from registry.api.documents import answer_aside
from registry.api.environments.finding import named_of
from registry.api.environments.planning import write_differences
from registry.api.environments.queries import read_number
from registry.api.queries import check_parameters
from storage.environments.vocabulary import EnvironmentBuild
from storage.errors import BuildStateWrong, EnvironmentBuildUnknown


async def get_difference(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    check_parameters(request, ("against",))
    named = named_of(request)
    after = await named.previews.find_lock(build)
    if after is None:
        raise BuildStateWrong(build.id, f"it is {build.status} and has no packages to compare")
    other = await _find_other(request, build)
    before = await named.previews.find_lock(other) if other else None
    if other is not None and before is None:
        raise BuildStateWrong(other.id, f"it is {other.status} and has no packages to compare with")

    def write() -> dict[str, Any]:
        against = other.id if other else None
        return {"build_id": build.id, "against": against, "platforms": write_differences(compare(before, after))}

    return await answer_aside(write)


async def _find_other(request: web.Request, build: EnvironmentBuild) -> EnvironmentBuild | None:
    """Raises EnvironmentBuildUnknown for one of another environment."""
    builds = named_of(request).store.builds
    against = read_number(request, "against")
    if against is None:
        return await builds.find_before(build)
    other = await builds.find(against)
    if other.environment != build.environment:
        raise EnvironmentBuildUnknown(against)
    return other
