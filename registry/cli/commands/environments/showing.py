"""`condery env list`, `condery env show` and `condery env alarms`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.commands.accounts.opening import moment, show_list
from registry.cli.display import echo, echo_json
from registry.cli.environments.naming import EnvironmentName, Limit, Namespace, find_environment
from registry.cli.environments.opening import Insecure, Server, work_at
from registry.cli.environments.shown import EnvironmentQuery
from registry.cli.environments.wanted import write_wanted
from registry.cli.options import AsJson, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.cli.environments.description import DescribedEnvironment
    from registry.cli.environments.place import Place
    from registry.cli.environments.shown import ShownAlarm, ShownBuild, ShownEnvironment

STATUSES = ("QUEUED", "BUILDING", "COMPLETED", "FAILED", "CANCELED")


MOST_SHOWN = 30
"""Packages that are named of those that were asked for; `condery build show` has all."""


def read_status(text: str | None) -> str | None:
    if text is not None and text.upper() not in STATUSES:
        raise typer.BadParameter(f"it is one of {', '.join(STATUSES)}")
    return text.upper() if text is not None else None


Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help=f"Only those with this status: {', '.join(STATUSES)}.",
        callback=read_status,
        show_default=False,
    ),
]


@takes_settings("storage", "log")
def list_environments(
    loaded: LoadedSettings,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAMESPACE", help="Only environments in this namespace.", show_default=False
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="TEXT",
            help="Only environments whose name or namespace contains TEXT.",
            show_default=False,
        ),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package", metavar="NAME", help="Only environments whose current build has this package. Repeatable."
        ),
    ] = None,
    status: Status = None,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """List the environments that you may see. --status is about their current builds."""
    query = EnvironmentQuery(namespace, search, status, tuple(package or ()))

    async def work(place: Place) -> Sequence[ShownEnvironment]:
        return await place.list_environments(query)

    found = work_at(loaded, server, insecure, work)
    if json:
        echo_json([each.to_json() for each in found])
        return
    rows = [
        (each.full_name, each.current_build, each.last_build, moment(each.created), each.created_by, each.description)
        for each in found
    ]
    columns = ("environment", "current_build", "last_build", "created", "created_by", "description")
    show_list(columns, rows, json=False, empty="there are no environments; `condery env create FILE` makes one")


@takes_settings("storage", "log")
def show(
    loaded: LoadedSettings,
    environment: EnvironmentName,
    namespace: Namespace = None,
    limit: Limit = 10,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Show an environment: its current build, what was asked for, what each build changed, and how to pull it."""
    from registry.cli.environments.description import describe_environment

    async def work(place: Place) -> DescribedEnvironment:
        return await describe_environment(place, await find_environment(place, environment, namespace), limit)

    found = work_at(loaded, server, insecure, work)
    if json:
        echo_json(found.to_json())
    else:
        _print(found)


@takes_settings("storage", "log")
def alarms(loaded: LoadedSettings, json: AsJson = False, server: Server = None, insecure: Insecure = False) -> None:
    """List the current builds that hold what the rules deny now. A server looks through all once a minute."""

    async def work(place: Place) -> Sequence[ShownAlarm]:
        return await place.list_alarms()

    found = work_at(loaded, server, insecure, work)
    if json:
        echo_json([each.to_json() for each in found])
        return
    rows = [(each.environment, each.build, moment(each.since), each.reason) for each in found]
    show_list(("environment", "build", "since", "reason"), rows, json=False, empty="there are none")


def _print(found: DescribedEnvironment) -> None:
    shown, current = found.environment, found.current
    echo(shown.full_name + (f": {shown.description}" if shown.description else ""))
    echo(f"made {moment(shown.created)} by {shown.created_by}")
    echo(f"current build: {_write_state(current)}")
    last = found.builds[0].build if found.builds else current
    if last.id > current.id:
        echo(f"last build:    {_write_state(last)}")
        if last.is_finished and not last.is_complete and current.is_complete:
            echo(f"{'':<15}build {current.id} stays the current one; see `condery build show {last.id}`")
    for number, line in enumerate(write_wanted(found.specification, MOST_SHOWN)):
        echo(f"{'' if number else 'asked for:':<15}{line}")
    if shown.solve_error and shown.solved is not None:
        echo(f"it could not be solved again by its schedule at {moment(shown.solved)}: {shown.solve_error}")
    echo(f"pull it:  docker pull {found.image}")
    if current.is_complete:
        echo(f"          docker pull {found.image}:{current.id}   (this build, whatever the current one is)")
        echo(f"          docker pull {found.image}:lock-{(current.lock or '')[:12]}   (exactly these packages)")
    for address in found.files.values():
        echo(f"file:     {address}")
    echo("")
    rows = [
        (
            f"{each.build.id} *" if each.build.id == current.id else each.build.id,
            each.build.status,
            moment(each.build.scheduled),
            each.build.created_by,
            each.build.cause.lower(),
            each.changes.to_line() if each.changes else each.build.info or _count(each.packages),
        )
        for each in found.builds
    ]
    columns = ("build", "status", "asked_for", "by", "cause", "what_changed")
    show_list(columns, rows, json=False, empty="it has no builds")
    if found.count > len(rows):
        echo(f"{len(rows)} of {found.count} builds; --limit shows more", err=True)


def _write_state(build: ShownBuild) -> str:
    return f"{build.id}, {build.status}" + (f" ({build.info})" if build.info else "")


def _count(packages: Sequence[object]) -> str:
    return f"{len(packages)} packages" if packages else ""
