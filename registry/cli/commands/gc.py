"""`condery gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from registry.cli.display import SafeConsole, echo_json
from registry.cli.options import AsJson, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from storage.garbage.collection import CollectionReport


@takes_settings("storage", "upkeep", "mirror")
def gc(
    loaded: LoadedSettings,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be deleted, and delete nothing.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Collect garbage now: delete content that nothing needs any more, while servers run.

    The bytes of a blob are deleted a minute after the blob, so that clients can finish reading them.
    """
    need_data(loaded.settings.data_directory)
    report = run_async(_collect(loaded.settings, dry_run))
    if json:
        echo_json(report.to_json())
    else:
        show(SafeConsole(highlight=False), report)


async def _collect(settings: Settings, dry_run: bool) -> CollectionReport:
    from registry.upkeep.collection import collect
    from storage.store import open_store

    async with open_store(settings.storage, settings.limits) as store:
        return await collect(settings, store, dry_run=dry_run)


def show(console: SafeConsole, report: CollectionReport) -> None:
    """Print a table for people, with the same facts as the JSON document."""
    table = Table("what", "deleted" if not report.dry_run else "would be deleted", "MB freed")
    for column in table.columns[1:]:
        column.justify = "right"
    for step in report.steps.values():
        table.add_row(step.name, f"{step.count:,}", f"{step.bytes / 1e6:,.1f}")
    table.add_row("in all", "", f"{report.bytes / 1e6:,.1f}", style="bold")
    console.print(table)
