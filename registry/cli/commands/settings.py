"""`condery settings show`."""

from __future__ import annotations

import typer
from rich.table import Table

from registry.cli.command import Command, Group
from registry.cli.display import SafeConsole, echo_json
from registry.cli.options import AsJson, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import SECTIONS, all_settings

app = typer.Typer(cls=Group, help="Show the settings in effect.", no_args_is_help=True)


@app.command("show", cls=Command)
@takes_settings(*SECTIONS)
def show(loaded: LoadedSettings, json: AsJson = False) -> None:
    """Print every setting with its value and where it was set. Secrets are masked."""
    rows = [
        (setting.name, setting.show(loaded.value(setting)), loaded.origins.get(setting.name, "default"))
        for setting in all_settings()
    ]
    if json:
        document = {name: {"value": value, "origin": origin} for name, value, origin in rows}
        echo_json(document)
        return
    console = SafeConsole(highlight=False)
    if not console.is_terminal:
        for name, value, origin in rows:
            typer.echo(f"{name} = {value}  ({origin})")
        return
    table = Table("setting", "value", "from")
    for row in rows:
        table.add_row(*row)
    console.print(table)
