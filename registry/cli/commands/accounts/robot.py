"""`condery robot`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import by, moment, show_list, state_of, work_on
from registry.cli.display import echo
from registry.cli.options import AsJson, UsageError, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from auth.accounts.account import Account
    from registry.access.accounts import OpenedAccounts

DAYS = 365.0

app = typer.Typer(cls=Group, help="Add, list and delete accounts of programs, such as CI jobs.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the robot.")]


@app.command("add", cls=Command)
@takes_settings("storage")
def add(
    loaded: LoadedSettings,
    name: Name,
    owner: Annotated[
        str | None,
        typer.Option("--owner", metavar="USER", help="Whose it is: it may do no more than they, and ends with them."),
    ] = None,
    days: Annotated[float, typer.Option("--days", help="Days until it is refused.")] = DAYS,
    no_expiry: Annotated[bool, typer.Option("--no-expiry", help="Let it last until it is deleted.")] = False,
) -> None:
    """Add a robot. It has no password and no rights of its own.

    Bind roles to it with condery role bind --robot, and make it an access token.
    """
    if days <= 0:
        raise UsageError("--days must be more than 0")
    expires = None if no_expiry else time.time() + days * 86400
    work_on(loaded, lambda opened: opened.accounts.add_robot(name, owner=owner, expires=expires, by=by()), new=True)
    echo(f"added the robot {name}" + ("" if expires is None else f", until {moment(expires)}"))


@app.command("list", cls=Command)
@takes_settings("storage")
def list_robots(loaded: LoadedSettings, json: AsJson = False) -> None:
    """List robots, with their owners and how long they last."""

    async def work(opened: OpenedAccounts) -> list[Account]:
        return await opened.accounts.list_all()

    accounts = work_on(loaded, work)
    names = {each.id: each.name for each in accounts}
    rows = [
        (each.name, names.get(each.owner or ""), state_of(each), moment(each.created))
        for each in accounts
        if each.kind == "robot"
    ]
    columns = ("name", "owner", "state", "created")
    show_list(columns, rows, json=json, empty="there are no robots; add one with: condery robot add NAME")


@app.command("disable", cls=Command)
@takes_settings("storage")
def disable(loaded: LoadedSettings, name: Name) -> None:
    """Refuse a robot until it is enabled again."""
    work_on(loaded, lambda opened: opened.accounts.disable(name, "robot", by=by()))
    echo(f"{name} is disabled")


@app.command("enable", cls=Command)
@takes_settings("storage")
def enable(loaded: LoadedSettings, name: Name) -> None:
    """Let a disabled robot in again."""
    work_on(loaded, lambda opened: opened.accounts.enable(name, "robot", by=by()))
    echo(f"{name} is enabled")


@app.command("delete", cls=Command)
@takes_settings("storage")
def delete(loaded: LoadedSettings, name: Name) -> None:
    """Delete a robot with its tokens and bindings."""
    work_on(loaded, lambda opened: opened.accounts.delete(name, "robot", by=by()))
    echo(f"deleted {name}")
