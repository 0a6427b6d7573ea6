"""`condery env delete` and `condery env rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.display import echo, echo_json
from registry.cli.environments.naming import LARGEST_BUILD, EnvironmentName, Namespace, find_environment
from registry.cli.environments.opening import Insecure, Server, work_at
from registry.cli.environments.place import Place
from registry.cli.environments.shown import COMPLETED, BuildQuery, ShownEnvironment
from registry.cli.options import AsJson, UsageError, takes_settings
from registry.settings.loading import LoadedSettings

MOST_BUILDS = 10_000
"""How far back an earlier build is looked for."""


@takes_settings("storage", "log")
def rollback(
    loaded: LoadedSettings,
    environment: EnvironmentName,
    build: Annotated[
        int | None,
        typer.Argument(
            metavar="[BUILD]",
            min=1,
            max=LARGEST_BUILD,
            help="The build that becomes the current one, an earlier or a later one. Default: the last complete build "
            "before the current one.",
            show_default=False,
        ),
    ] = None,
    namespace: Namespace = None,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Make another complete build the current one, which the tag latest means. Nothing is built."""

    async def work(place: Place) -> tuple[ShownEnvironment, str]:
        found = await find_environment(place, environment, namespace)
        wanted = build if build is not None else await _find_earlier(place, found)
        await place.set_current(found.namespace, found.name, wanted)
        return await place.find(found.namespace, found.name), f"{place.host}/{found.repository}"

    changed, image = work_at(loaded, server, insecure, work)
    if json:
        echo_json({"environment": changed.to_json(), "image": f"{image}:{changed.current_build}"})
        return
    echo(f"build {changed.current_build} is the current build of {changed.full_name} now; docker pull {image} gives it")


async def _find_earlier(place: Place, environment: ShownEnvironment) -> int:
    """Raises UsageError if there is none."""
    query = BuildQuery(environment.namespace, environment.name, COMPLETED, MOST_BUILDS)
    builds, _ = await place.list_builds(query)
    earlier = max((each.id for each in builds if each.id < environment.current_build), default=None)
    if earlier is None:
        raise UsageError(
            f"{environment.full_name} has no complete build before build {environment.current_build}; "
            f"`condery env show {environment.full_name}` has all"
        )
    return earlier


@takes_settings("builder", "storage", "policy", "log")
def delete(
    loaded: LoadedSettings,
    environment: EnvironmentName,
    namespace: Namespace = None,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Delete an environment with all its builds and images. A build that runs is canceled."""

    async def work(place: Place) -> ShownEnvironment:
        found = await find_environment(place, environment, namespace)
        await place.delete(found.namespace, found.name)
        return found

    echo(f"{work_at(loaded, server, insecure, work, builds=True).full_name} is deleted")
