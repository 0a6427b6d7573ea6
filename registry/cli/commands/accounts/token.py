"""`condery token`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import by, moment, show_list, work_on
from registry.cli.display import SafeConsole, echo, echo_json
from registry.cli.options import AsJson, UsageError, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from auth.accounts.account import Account
    from auth.tokens.access_tokens import AccessToken, NewToken
    from registry.access.accounts import OpenedAccounts

app = typer.Typer(cls=Group, help="Make, list and revoke access tokens of people and robots.", no_args_is_help=True)

User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="The person whose token it is.")]
Robot = Annotated[str | None, typer.Option("--robot", metavar="NAME", help="The robot whose token it is.")]


@app.command("create", cls=Command)
@takes_settings("storage")
def create(
    loaded: LoadedSettings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, such as a machine's name.")],
    user: User = None,
    robot: Robot = None,
    bindings: Annotated[
        list[str] | None,
        typer.Option(
            "--limit", metavar="PATTERN=ROLE", help="What it is limited to, such as team/*=viewer; repeatable."
        ),
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", help="Days until it ends; without it the most allowed.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Make an access token and print it; it is shown this once.

    It may do what its owner may, as far as each limit allows it too.
    """
    owner = _one_owner(user, robot)
    if days is not None and days <= 0:
        raise UsageError("--days must be more than 0")
    most = loaded.settings.access.access_token_days
    if days is not None and days > most:
        raise UsageError(f"--days can be at most {most:g} days here (setting access_token_days)")
    expires = None if days is None else time.time() + days * 86400

    async def work(opened: OpenedAccounts) -> NewToken:
        account = await _find(opened, owner, is_robot=robot is not None)
        held = await opened.principals.load(account.id)
        assert held is not None, "it was found a moment ago"
        return await opened.access_tokens.make(held.principal, name, bindings or None, expires, by=by())

    made = work_on(loaded, work)
    if json:
        echo_json({**made.token.to_json(), "token": made.text})
        return
    echo(made.text)
    SafeConsole(stderr=True, highlight=False).print(
        f"token {made.token.id} of {owner}, until {moment(made.token.expires)}; keep it, it is not shown again"
    )


@app.command("list", cls=Command)
@takes_settings("storage")
def list_tokens(
    loaded: LoadedSettings,
    user: User = None,
    robot: Robot = None,
    ended: Annotated[bool, typer.Option("--ended", help="List revoked and expired ones, too.")] = False,
    json: AsJson = False,
) -> None:
    """List access tokens, of everybody or of one account, without their text."""

    async def work(opened: OpenedAccounts) -> Sequence[AccessToken]:
        account = None
        if user is not None or robot is not None:
            account = (await _find(opened, _one_owner(user, robot), is_robot=robot is not None)).id
        return await opened.access_tokens.list_tokens(account, with_ended=ended)

    rows = [
        (
            each.id,
            each.owner,
            each.name,
            "everything" if each.bindings is None else each.bindings,
            moment(each.created),
            moment(each.expires) if each.revoked is None else f"revoked {moment(each.revoked)}",
            moment(each.used),
            each.used_from,
        )
        for each in work_on(loaded, work)
    ]
    columns = ("id", "owner", "name", "limits", "created", "until", "used", "used_from")
    show_list(columns, rows, json=json, empty="there are no access tokens; make one with: condery token create NAME")


@app.command("revoke", cls=Command)
@takes_settings("storage")
def revoke(
    loaded: LoadedSettings, token: Annotated[str, typer.Argument(metavar="ID", help="Its id, as the list has it.")]
) -> None:
    """End an access token at once, and everything that was made with it."""
    work_on(loaded, lambda opened: opened.access_tokens.revoke(token, by=by()))
    echo("the token is revoked")


async def _find(opened: OpenedAccounts, name: str, *, is_robot: bool) -> Account:
    found = await opened.accounts.find(name)
    if (found.kind == "robot") != is_robot:
        raise UsageError(f"{name} is a {found.kind}: {'--user' if is_robot else '--robot'} {name}")
    return found


def _one_owner(user: str | None, robot: str | None) -> str:
    if (user is None) == (robot is None):
        number = "you gave none" if user is None else "you gave both"
        raise UsageError(f"say whose token it is with exactly one of --user NAME and --robot NAME; {number}")
    owner = user if robot is None else robot
    assert owner is not None, "one of them is given"
    return owner
