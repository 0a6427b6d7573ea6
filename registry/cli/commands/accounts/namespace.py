"""`condery namespace`."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.commands.accounts.opening import by, moment, show_list, work_on
from registry.cli.display import echo
from registry.cli.options import AsJson, Command, Group, takes_settings
from registry.settings.loading import LoadedSettings

app = typer.Typer(
    cls=Group,
    help="Create, list and delete namespaces that hold roles, policies or credentials. Pushing needs none.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAMESPACE", help="Name of the namespace.")]


@app.command("create", cls=Command)
@takes_settings("storage")
def create(loaded: LoadedSettings, name: Name) -> None:
    """Create a namespace. Nobody may do anything in it by that alone: bind roles."""
    work_on(loaded, lambda opened: opened.namespaces.create(name, by=by()), new=True)
    echo(f"created the namespace {name}")


@app.command("list", cls=Command)
@takes_settings("storage")
def list_namespaces(loaded: LoadedSettings, json: AsJson = False) -> None:
    """List the namespaces that were created."""
    namespaces = work_on(loaded, lambda opened: opened.namespaces.list_all())
    rows = ((each.name, moment(each.created), each.created_by) for each in namespaces)
    empty = "no namespace was created; create one with: condery namespace create NAMESPACE"
    show_list(("name", "created", "created_by"), rows, json=json, empty=empty)


@app.command("delete", cls=Command)
@takes_settings("storage")
def delete(loaded: LoadedSettings, name: Name) -> None:
    """Delete an empty namespace with its bindings and credentials."""
    work_on(loaded, lambda opened: opened.namespaces.delete(name, by=by()))
    echo(f"deleted the namespace {name}")
