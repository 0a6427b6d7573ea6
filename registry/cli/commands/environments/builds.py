"""`condery build list`, `show`, `logs` and `cancel`: builds of environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import moment, show_list
from registry.cli.commands.environments.showing import Status
from registry.cli.display import echo, echo_json
from registry.cli.environments.naming import BuildName, Limit, find_build_id
from registry.cli.environments.opening import Insecure, Server, work_at
from registry.cli.environments.shown import BuildQuery
from registry.cli.environments.wanted import write_wanted
from registry.cli.options import AsJson, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.cli.environments.description import DescribedBuild
    from registry.cli.environments.place import Place
    from registry.cli.environments.shown import ShownBuild

app = typer.Typer(
    cls=Group,
    help="Show, follow and end builds of environments.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command("list", cls=Command)
@takes_settings("storage", "log")
def list_builds(
    loaded: LoadedSettings,
    environment: Annotated[
        str | None,
        typer.Argument(metavar="[NAMESPACE/NAME]", help="Only builds of this environment.", show_default=False),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAMESPACE", help="Only builds in this namespace.", show_default=False
        ),
    ] = None,
    status: Status = None,
    limit: Limit = 50,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """List builds of environments, the newest first."""

    async def work(place: Place) -> tuple[Sequence[ShownBuild], int]:
        from registry.cli.environments.naming import find_environment

        if environment is None:
            return await place.list_builds(BuildQuery(namespace, status=status, limit=limit))
        found = await find_environment(place, environment, namespace)
        return await place.list_builds(BuildQuery(found.namespace, found.name, status, limit))

    builds, count = work_at(loaded, server, insecure, work)
    if json:
        echo_json([each.to_json() for each in builds])
        return
    rows = [
        (each.id, each.environment, each.status, moment(each.scheduled), moment(each.ended), each.created_by, each.info)
        for each in builds
    ]
    columns = ("build", "environment", "status", "asked_for", "ended", "by", "info")
    show_list(columns, rows, json=False, empty="there are no builds; `condery env create FILE` makes one")
    if count > len(builds):
        echo(f"{len(builds)} of {count} builds; --limit shows more", err=True)


@app.command("show", cls=Command)
@takes_settings("storage", "log")
def show(
    loaded: LoadedSettings,
    build: BuildName,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Show a build: its state, what it was asked for, its packages, and what it changed."""
    from registry.cli.environments.description import describe_build

    async def work(place: Place) -> DescribedBuild:
        return await describe_build(place, await place.find_build(await find_build_id(place, build)))

    found = work_at(loaded, server, insecure, work)
    if json:
        packages = [{"name": each.name, "version": each.version, "channel": each.channel} for each in found.packages]
        echo_json({**found.to_json(), "specification": dict(found.specification), "packages": packages})
    else:
        _print(found)


@app.command("logs", cls=Command)
@takes_settings("storage", "log")
def logs(
    loaded: LoadedSettings,
    build: BuildName,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Follow the log until the build ends. The command fails if the build fails."
        ),
    ] = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Print the log of a build."""
    from registry.cli.environments.following import follow_to_end

    async def work(place: Place) -> None:
        found = await find_build_id(place, build)
        if follow:
            await follow_to_end(place, found, "log")
            return
        async for line in place.read_log(found, follow=False):
            echo(line)

    work_at(loaded, server, insecure, work)


@app.command("cancel", cls=Command)
@takes_settings("builder", "storage", "policy", "log")
def cancel(loaded: LoadedSettings, build: BuildName, server: Server = None, insecure: Insecure = False) -> None:
    """Cancel a build that waits or runs."""

    async def work(place: Place) -> int:
        found = await find_build_id(place, build)
        await place.cancel(found)
        return found

    echo(f"build {work_at(loaded, server, insecure, work, builds=True)} is canceled")


def _print(found: DescribedBuild) -> None:
    build = found.build
    facts: dict[str, Any] = {
        "environment": build.environment,
        "status": build.status,
        "info": build.info,
        "asked for": f"{moment(build.scheduled)} by {build.created_by} ({build.cause.lower()})",
        "started": moment(build.started),
        "ended": moment(build.ended),
        "lock": f"lock-{build.lock}" if build.lock else None,
        "packages": f"{len(found.packages)}, {build.size / 1e6:.1f} MB" if build.is_complete else None,
    }
    echo(f"build {build.id}")
    for name, value in facts.items():
        if value:
            echo(f"{name + ':':<13}{value}")
    echo("what was asked for:")
    for line in write_wanted(found.specification):
        echo(f"  {line}")
    if found.changes is not None:
        echo(f"what changed against build {found.changes.against}:")
        for line in found.changes.to_lines() or ["nothing"]:
            echo(f"  {line}")
    if found.packages:
        echo("packages:")
        for each in found.packages:
            echo(f"  {each.name} {each.version}" + (f" from {each.channel}" if each.channel else ""))
