"""`condery env`."""

from __future__ import annotations

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.environments.changing import delete, rollback
from registry.cli.commands.environments.showing import alarms, list_environments, show
from registry.cli.commands.environments.transferring import export, import_environment
from registry.cli.commands.environments.watching import watch
from registry.cli.commands.environments.writing import create, update

app = typer.Typer(
    cls=Group,
    help="Write environments down, build them, and choose between their builds.",
    no_args_is_help=True,
)
for name, command in {
    "create": create,
    "list": list_environments,
    "show": show,
    "update": update,
    "delete": delete,
    "rollback": rollback,
    "export": export,
    "import": import_environment,
    "watch": watch,
    "alarms": alarms,
}.items():
    app.command(name, cls=Command)(command)
