"""`condery group`."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import Force, by, moment, show_list, work_on
from registry.cli.display import echo
from registry.cli.options import AsJson, takes_settings
from registry.settings.loading import LoadedSettings

app = typer.Typer(cls=Group, help="Add, list and fill groups of people.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="GROUP", help="Name of the group.")]
User = Annotated[str, typer.Argument(metavar="USER", help="Name of a person's account.")]


@app.command("add", cls=Command)
@takes_settings("storage")
def add(loaded: LoadedSettings, name: Name) -> None:
    """Add a group with nobody in it."""
    work_on(loaded, lambda opened: opened.groups.add(name, by=by()), new=True)
    echo(f"added the group {name}")


@app.command("list", cls=Command)
@takes_settings("storage")
def list_groups(loaded: LoadedSettings, json: AsJson = False) -> None:
    """List groups and who is in them."""
    groups = work_on(loaded, lambda opened: opened.groups.list_all())
    rows = ((each.name, each.members, moment(each.created)) for each in groups)
    empty = "there are no groups; add one with: condery group add GROUP"
    show_list(("name", "members", "created"), rows, json=json, empty=empty)


@app.command("delete", cls=Command)
@takes_settings("storage")
def delete(loaded: LoadedSettings, name: Name, force: Force = False) -> None:
    """Delete a group with all that was bound to it."""
    work_on(loaded, lambda opened: opened.groups.delete(name, force=force, by=by()))
    echo(f"deleted the group {name}")


@app.command("join", cls=Command)
@takes_settings("storage")
def join(loaded: LoadedSettings, name: Name, user: User) -> None:
    """Put a person into a group."""
    work_on(loaded, lambda opened: opened.groups.join(name, user, by=by()))
    echo(f"{user} is in the group {name}")


@app.command("leave", cls=Command)
@takes_settings("storage")
def leave(loaded: LoadedSettings, name: Name, user: User, force: Force = False) -> None:
    """Take a person out of a group."""
    work_on(loaded, lambda opened: opened.groups.leave(name, user, force=force, by=by()))
    echo(f"{user} is no longer in the group {name}")
