"""`condery audit`."""

from __future__ import annotations

import datetime
import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from registry.cli.display import SafeConsole, echo_json
from registry.cli.options import UsageError, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

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
        int | None, typer.Option("--before", metavar="ID", help="Only events older than the event ID: the next page.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Show who did what, and who was refused, the newest events first."""
    from auth.audit.reading import AuditFilter

    need_data(loaded.settings.data_directory)
    wanted = AuditFilter(user, action, entity, "denied" if denied else None, _moment(since), _moment(until))
    page = run_async(_read(loaded.settings, wanted, before, limit))
    if json:
        echo_json({"events": [asdict(each) for each in page.events], "before": page.before})
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


def _show(page: AuditPage) -> None:
    if not page.events:
        typer.echo("no events")
        return
    table = Table("when (UTC)", "who", "from", "what", "to what", "")
    for event in page.events:
        style = "red" if event.outcome == "denied" else None
        table.add_row(
            _when(event), event.principal, event.client, event.action, event.entity, event.outcome, style=style
        )
    SafeConsole(highlight=False).print(table)
    if page.before is not None:
        typer.echo(f"older events: --before {page.before}")


def _when(event: StoredEvent) -> str:
    return datetime.datetime.fromtimestamp(event.time, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
