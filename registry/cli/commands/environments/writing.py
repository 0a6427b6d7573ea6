"""`condery env create` and `condery env update`: what somebody has written down becomes a build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.display import echo, echo_json
from registry.cli.environments.files import choose_name, read_environment, read_file
from registry.cli.environments.following import follow_to_end
from registry.cli.environments.naming import EnvironmentName, Namespace, choose_namespace, find_environment
from registry.cli.environments.opening import Insecure, Server, work_at
from registry.cli.environments.place import Place
from registry.cli.environments.shown import ShownBuild, ShownEnvironment, Written
from registry.cli.environments.wanted import write_wanted
from registry.cli.options import AsJson, UsageError, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from builder.environments.inputs.input import EnvironmentInput
    from builder.settings import BuilderSettings

KINDS = (
    "an environment file (environment.yaml), conda-lock.yml, pixi.lock, an explicit list, pixi.toml or pyproject.toml; "
    "- is standard input"
)
SOME_WANTED = 10
"""Packages that are named of those that are solved again."""
File = Annotated[str, typer.Argument(metavar="FILE", help=f"The environment: {KINDS}.")]
Description = Annotated[
    str | None,
    typer.Option("--description", metavar="TEXT", help="Description of the environment.", show_default=False),
]
Wait = Annotated[
    bool | None,
    typer.Option(
        "--wait/--no-wait",
        help="Wait for the build, and fail if it fails. In the local store the command itself builds, and waits; "
        "--no-wait leaves the build to a server on this data directory. At a server --no-wait is the default.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Asked:
    environment: ShownEnvironment
    build: ShownBuild
    image: str
    warnings: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "environment": self.environment.to_json(),
            "build": self.build.to_json(),
            "image": self.image,
            "warnings": list(self.warnings),
        }


@takes_settings("builder", "storage", "policy", "log")
def create(
    loaded: LoadedSettings,
    file: File,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Name of the environment, if the file has none.", show_default=False
        ),
    ] = None,
    namespace: Namespace = None,
    description: Description = None,
    wait: Wait = None,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Build the environment that a file describes, and print the reference of its image.

    An environment of this name that is there gets a new build. A build becomes the current one when it is complete.
    """
    text, wanted = _read(file, loaded.settings.builder)
    chosen = choose_name(wanted, name, file)

    async def work(place: Place) -> Asked:
        where = await choose_namespace(place, namespace)
        written = Written(text, chosen, where, description, is_lock=wanted.kind.is_lock)
        build = await place.ask(written)
        return await _finish(place, await place.find(where, chosen), build, wait, wanted.warnings, json=json)

    show_asked(work_at(loaded, server, insecure, work, builds=True, new=True), json=json)


@takes_settings("builder", "storage", "policy", "log")
def update(
    loaded: LoadedSettings,
    environment: EnvironmentName,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help=f"The environment from now on: {KINDS}.", show_default=False),
    ] = None,
    namespace: Namespace = None,
    description: Description = None,
    wait: Wait = None,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Change an environment: build what a file says now, or set the description.

    Without FILE and --description the command solves again what the last build was asked for, and builds it with the
    packages of today.
    """
    read = _read(file, loaded.settings.builder) if file is not None else None

    async def work(place: Place) -> Asked | None:
        found = await find_environment(place, environment, namespace)
        if read is not None:
            text, wanted = read
            choose_name(wanted, found.name, file or "")
            lock = wanted.kind.is_lock
            build = await place.ask(Written(text, found.name, found.namespace, description, is_lock=lock))
        elif description is not None:
            await place.describe(found.namespace, found.name, description)
            return None
        else:
            build = await place.ask_again(found.last_build)
            if not json:
                asked = write_wanted(await place.find_specification(await place.find_build(build)), SOME_WANTED)
                echo(f"build {build} solves again what build {found.last_build} was asked for: {asked[0]}", err=True)
        warnings = read[1].warnings if read is not None else ()
        return await _finish(place, found, build, wait, warnings, json=json)

    if read is None and description is not None and wait:
        raise UsageError("--wait: a description needs no build")
    asked = work_at(loaded, server, insecure, work, builds=True)
    if asked is None:
        echo(f"the description of {environment} is set")
        return
    show_asked(asked, json=json)


def _read(file: str, settings: BuilderSettings) -> tuple[str, EnvironmentInput]:
    content = read_file(file)
    return content.decode("utf-8-sig", "replace"), read_environment(content, file, settings)


async def _finish(
    place: Place,
    environment: ShownEnvironment,
    build: int,
    waits: bool | None,
    warnings: Sequence[str],
    *,
    json: bool,
) -> Asked:
    """Wait if that is wanted. Raises BuildUnsuccessful."""
    for warning in warnings:
        echo(f"warning: {warning}", err=True)
    image = f"{place.host}/{environment.repository}:{build}"
    if place.waits if waits is None else waits:
        ended = await follow_to_end(place, build, "nothing" if json else "progress")
        return Asked(await place.find(environment.namespace, environment.name), ended, image, warnings)
    asked = Asked(environment, await place.find_build(build), image, warnings)
    if not json:
        echo(f"build {build} of {environment.full_name} is {asked.build.status}. {place.left}.", err=True)
        echo(f"`condery build logs -f {build}` follows it. A pull of its image waits for it.", err=True)
    return asked


def show_asked(asked: Asked, *, json: bool) -> None:
    if json:
        echo_json(asked.to_json())
    else:
        echo(asked.image)
