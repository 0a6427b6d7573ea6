"""`condery env export` and `condery env import`, on the local store."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.display import echo, echo_json
from registry.cli.environments.naming import EnvironmentName, Namespace, read_environment_name
from registry.cli.options import FAILED, AsJson, UsageError, fail, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from builder.environments.life import NamedEnvironments
    from builder.environments.transfer.exporting import Exported, Which
    from builder.environments.transfer.importing import Imported
    from registry.settings.model import Settings
    from storage.environments.vocabulary import EnvironmentBuild
    from storage.events.outbox import Record

Builds = Annotated[
    str,
    typer.Option(
        "--builds", metavar="WHICH", help="Builds to take: all (that have ended), current, or the number of one."
    ),
]


@takes_settings("builder", "storage", "policy", "log")
def export(
    loaded: LoadedSettings,
    environment: EnvironmentName,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The archive to write: a new directory, or a file whose name ends with .tar.",
            show_default=False,
        ),
    ],
    bytes: Annotated[  # noqa: A002 - the option's name
        bool, typer.Option("--bytes/--no-bytes", help="Take the images, or their digests alone.")
    ] = True,
    builds: Builds = "all",
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Write an environment with its history, locks and images as one OCI layout, which `condery env import` reads."""
    from registry.cli.environments.here import DEFAULT_NAMESPACE
    from registry.logs.lines import configure
    from storage.disk.privacy import current_umask

    configure(loaded.command_log)
    which = _read_which(builds)
    named, name = read_environment_name(environment, namespace)
    chosen = named or DEFAULT_NAMESPACE
    if loaded.settings.storage.database is None:
        need_data(loaded.settings.data_directory)
    made = run_async(_export(loaded.settings, chosen, name, output, which, current_umask(), with_bytes=bytes))
    if json:
        echo_json({"path": str(output), "builds": made.builds, "digest": made.digest, "bytes": made.bytes})
        return
    echo(f"{output}: {made.builds} builds of {chosen}/{name}, {made.bytes / 1e6:.1f} MB, {made.digest}")


async def _export(
    settings: Settings, namespace: str, name: str, output: Path, which: Which, umask: int, *, with_bytes: bool
) -> Exported:
    from builder.environments.transfer.exporting import EnvironmentExport
    from registry.cli.local import open_service

    async with open_service(settings) as (store, service):
        export = EnvironmentExport(service.builder, store.environments)
        return await export.write(namespace, name, output, which=which, with_bytes=with_bytes, umask=umask)


@takes_settings("builder", "storage", "policy", "log")
def import_environment(
    loaded: LoadedSettings,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="The archive to read: a directory or a .tar that `condery env export` wrote."
        ),
    ],
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAMESPACE",
            help="Namespace of the new environment. Default: the exported one's.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name of the new environment. Default: the exported one's.",
            show_default=False,
        ),
    ] = None,
    builds: Builds = "all",
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Build all images again from their locks, and compare them with those in the archive."
        ),
    ] = False,
    settings: Annotated[
        bool, typer.Option("--settings/--no-settings", help="Take the environment's settings, or leave them out.")
    ] = True,
    extends: Annotated[
        bool,
        typer.Option("--extends", help="Let it extend environments of other namespaces, whose packages it then shows."),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait",
            help="Build now what has no image in the archive, or leave it to a server on this store.",
        ),
    ] = True,
    json: AsJson = False,
) -> None:
    """Make a new environment of an exported one. Channels and rules of the settings hold for it."""
    from registry.logs.lines import configure

    configure(loaded.command_log)
    which = _read_which(builds)
    found = run_async(
        _import(
            loaded.settings,
            path,
            namespace,
            name,
            which,
            rebuild=rebuild,
            may_set=settings,
            may_extend=extends,
            wait=wait,
        )
    )
    if json:
        echo_json([_write(each) for each in found])
    else:
        for each in found:
            info = f": {each.build.status_info}" if each.build.status_info else ""
            is_current = ", the current one" if each.build.is_current else ""
            echo(
                f"build {each.build.id} of {each.build.namespace}/{each.build.name}{is_current} was {each.origin}: "
                f"{each.build.status}{info}"
            )
    if failed := sum(each.was_complete and each.build.is_finished and not each.is_complete for each in found):
        fail(f"{failed} builds could not be made again; they say why", FAILED)


async def _import(
    settings: Settings,
    path: Path,
    namespace: str | None,
    name: str | None,
    which: Which,
    *,
    rebuild: bool,
    may_set: bool,
    may_extend: bool,
    wait: bool,
) -> list[Imported]:
    from auth.accounts.names import Names
    from auth.audit.log import append
    from builder.environments.transfer.importing import EnvironmentImport
    from registry.cli.commands.accounts.opening import by
    from registry.cli.local import open_service
    from registry.http.references import check_repository

    actor, builder = by(), settings.builder
    # whoever wrote the archive chose the channels, so those of the settings alone are allowed
    channels = builder.make_channel_policy("none")

    changed: list[str] = []

    def record(names: Sequence[str]) -> Record[EnvironmentBuild]:
        changed[:] = names
        also = {"settings": ", ".join(names)} if names else {}

        async def record_import(connection: AsyncConnection, build: EnvironmentBuild) -> None:
            await append(connection, actor.did("environment.import", build.repository, build=build.id, **also))

        return record_import

    async def permit(namespace: str, repository: str) -> None:
        Names(builder.root).check("a namespace", namespace)
        check_repository(repository)

    async with open_service(settings) as (_, service):
        named = service.environments
        assert named is not None, "the store has environments"
        found = await EnvironmentImport.of(named, channels).read(
            path, by=actor.name, namespace=namespace, name=name, which=which, rebuild=rebuild, may_set=may_set,
            may_extend=may_extend, permit=permit, record=record, tell=lambda text: echo(text, err=True),
        )  # fmt: skip
        if changed:
            echo(f"set for the environment: {', '.join(changed)}", err=True)
        return await _make(named, found) if wait else found


async def _make(named: NamedEnvironments, found: Sequence[Imported]) -> list[Imported]:
    """Make what has no image yet; return all builds as they are then."""
    from builder.errors import BuildFailed

    ended = []
    for each in found:
        if not each.build.is_finished:
            submitted = await named.submit(each.build)
            # one that fails says so itself, and the others are made nevertheless
            with contextlib.suppress(BuildFailed):
                await submitted.wait(None)
        ended.append(replace(each, build=await named.store.builds.find(each.build.id)))
    return ended


def _write(imported: Imported) -> dict[str, Any]:
    build = imported.build
    return {
        "build": build.id,
        "environment": f"{build.namespace}/{build.name}",
        "status": build.status,
        "info": build.status_info or "",
        "is_current": build.is_current,
        "origin": {"environment": imported.origin.environment, "build": imported.origin.build},
    }


def _read_which(text: str) -> Which:
    """Raises UsageError."""
    if text == "all":
        return "all"
    if text == "current":
        return "current"
    if not text.isascii() or not text.isdecimal() or len(text) > 10:
        raise UsageError(f"--builds {text}: it is all, current, or the number of a build")
    return int(text)
