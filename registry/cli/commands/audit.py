"""`condery audit`."""

from __future__ import annotations

import datetime
import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from registry.cli.display import SafeConsole, echo, echo_json
from registry.cli.options import UsageError, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings
from storage.text import printable_line

if TYPE_CHECKING:
    from auth.audit.reading import AuditFilter, AuditPage, StoredEvent

_AGE = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@takes_settings("storage")
def audit(
    loaded: LoadedSettings,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only what NAME did.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="ACTION", help="Only one kind of action, such as manifest.push.")
    ] = None,
    entity: Annotated[
        str | None,
        typer.Option("--entity", metavar="ENTITY", help="Only what was done to ENTITY; team/* is all of a namespace."),
    ] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was refused.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Not before WHEN: 2026-11-30, or an age such as 12h.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Before WHEN: 2026-11-30, or an age such as 12h.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Maximum number of events.")] = 50,
    before: Annotated[
        int | None,
        typer.Option(
            "--before", metavar="ID", min=1, max=2**63 - 1, help="Only events older than the event ID: the next page."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Show who did what, and who was refused, the newest events first.

    A pipe or a file gets a line for each event, with tabs between its parts.
    """
    from auth.audit.reading import AuditFilter

    if loaded.settings.storage.database is None:
        need_data(loaded.settings.data_directory)
    wanted = AuditFilter(user, action, entity, "denied" if denied else None, _moment(since), _moment(until))
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise UsageError("--since is not before --until, so there is nothing between them")
    page = run_async(_read(loaded.settings, wanted, before, limit))
    if json:
        echo_json({"events": [_write(each) for each in page.events], "before": page.before})
    else:
        _show(page)


async def _read(settings: Settings, wanted: AuditFilter, before: int | None, limit: int) -> AuditPage:
    from auth.audit.reading import read_page
    from storage.store import open_store

    async with open_store(settings.storage) as store:
        return await read_page(store.database, wanted, before=before, limit=limit)


def _moment(text: str | None) -> float | None:
    """The UNIX seconds of a day (UTC), a time, or an age."""
    if text is None:
        return None
    if found := _AGE.fullmatch(text):
        return time.time() - int(found[1]) * _SECONDS[found[2]]
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is neither a time such as 2026-11-30T12:00 nor an age such as 12h or 7d") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _write(event: StoredEvent) -> dict[str, object]:
    """As `GET /api/v1/audit/` has it."""
    return {**asdict(event), "time": datetime.datetime.fromtimestamp(event.time, datetime.UTC).isoformat()}


def _show(page: AuditPage) -> None:
    if not page.events:
        echo("no events", err=True)
        return
    console = SafeConsole(highlight=False)
    if console.is_terminal:
        console.print(_table(page))
    else:
        for event in page.events:
            echo("\t".join(map(printable_line, _cells(event))))
    if page.before is not None:
        echo(f"older events: --before {page.before}", err=True)


def _table(page: AuditPage) -> Table:
    table = Table()
    for name in ("when (UTC)", "who", "from", "what", "to what", "", "more"):
        # whoever searches for a name has to find all of it
        table.add_column(name, overflow="fold")
    for event in page.events:
        table.add_row(*map(printable_line, _cells(event)), style="red" if event.outcome == "denied" else None)
    return table


def _cells(event: StoredEvent) -> tuple[str, ...]:
    when = datetime.datetime.fromtimestamp(event.time, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    more = ", ".join(f"{name}={value}" for name, value in event.detail.items())
    return when, event.principal, event.client, event.action, event.entity, event.outcome, more
