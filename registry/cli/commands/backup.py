"""`condery backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from registry.cli.display import SafeConsole, echo_json
from registry.cli.options import AsJson, UsageError, need_data, takes_settings
from registry.settings.loading import LoadedSettings


@takes_settings("storage")
def backup(
    loaded: LoadedSettings,
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="New directory, or an earlier backup to update.")
    ],
    json: AsJson = False,
) -> None:
    """Copy the content of the data directory to DIRECTORY while the server runs.

    DIRECTORY becomes a data directory itself. Files that are already there are not copied again. Caches are left out.
    """
    from storage.garbage.exclusive import between_collections
    from storage.integrity.backup import back_up

    settings = loaded.settings.storage
    if settings.database is not None or settings.s3_bucket is not None:
        raise UsageError("condery backup copies SQLite and files only; for PostgreSQL and S3 see docs/backup.md")
    need_data(settings.data_directory)
    console = SafeConsole(stderr=True)
    with (
        between_collections(settings.data_directory),
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("copying", total=None)
        made = back_up(
            settings.data_directory, directory, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if json:
        document = {"files": made.files, "bytes": made.bytes, "copied": made.copied}
        echo_json(document)
        return
    typer.echo(f"{directory}: {made.files} files, {made.bytes / 1e6:.1f} MB, {made.copied / 1e6:.1f} MB of them new")
