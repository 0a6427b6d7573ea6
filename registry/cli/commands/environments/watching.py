"""`condery env watch`: files are built in the local store whenever they change, until the command is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.display import echo
from registry.cli.options import UsageError, run_async, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from registry.settings.model import Settings


@takes_settings("builder", "storage", "policy", "log")
def watch(
    loaded: LoadedSettings,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An environment file, or a directory of them.")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Namespace of their environments.")
    ] = "default",
    recursive: Annotated[bool, typer.Option("--recursive", help="Watch the directories below PATH as well.")] = False,
) -> None:
    """Build environment files in the local store whenever they change, until Ctrl-C ends it. See docs/watching.md."""
    from builder.environments.watching.settings import WatchSettings
    from registry.logs.lines import configure

    configure(loaded.command_log)
    try:
        entries = WatchSettings(watch=(f"{namespace}={path.absolute()}",), watch_recursive=recursive)
    except ValueError:
        raise UsageError(f"{namespace}={path} cannot be watched: expected a namespace and a path") from None
    settings = loaded.settings.model_copy(update={"watching": entries})
    echo(f"watching {path} into {namespace}; end with Ctrl-C", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        run_async(_watch(settings))


async def _watch(settings: Settings) -> None:
    from registry.cli.local import open_service
    from registry.upkeep.environments import watching_files

    async with open_service(settings) as (store, service), watching_files(settings, store, service):
        await asyncio.Event().wait()
