"""`condery token`: access tokens in the local store, or those of whoever asks a running server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import by, moment, show_list, work_on
from registry.cli.display import SafeConsole, echo, echo_json
from registry.cli.environments.opening import Insecure, Server, find_server, open_client
from registry.cli.options import AsJson, UsageError, run_async, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from auth.accounts.account import Account
    from auth.tokens.access_tokens import AccessToken, NewToken
    from registry.access.accounts import OpenedAccounts
    from registry.cli.environments.client import Fields

app = typer.Typer(cls=Group, help="Make, list and revoke access tokens of people and robots.", no_args_is_help=True)

User = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="The person whose token it is, in the local store.")
]
Robot = Annotated[
    str | None, typer.Option("--robot", metavar="NAME", help="The robot whose token it is, in the local store.")
]


class _Shown(NamedTuple):
    """A token as lists have it, under the names of their columns."""

    id: str
    owner: str
    name: str
    limits: Sequence[str] | str
    created: str | None
    until: str | None
    used: str | None
    used_from: str | None


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
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Make an access token and print it; it is shown this once.

    It may do what its owner may, as far as each limit allows it too. At a server its owner is whoever asks, and if they
    ask with a token, the new one ends with that.
    """
    if days is not None and days <= 0:
        raise UsageError("--days must be more than 0")
    asked = find_server(server)
    if asked is not None:
        _refuse_owner(user, robot)
        document = _make_there(asked, name, bindings or None, days, insecure=insecure)
    else:
        made = _make_here(loaded, name, user, robot, bindings or None, days)
        document = {**made.token.to_json(), "token": made.text}
    if json:
        echo_json(document)
        return
    echo(str(document["token"]))
    SafeConsole(stderr=True, highlight=False).print(
        f"token {document['id']} of {document['owner']}, until {document['expires']}; keep it, it is not shown again",
        soft_wrap=True,
    )


def _make_here(
    loaded: LoadedSettings,
    name: str,
    user: str | None,
    robot: str | None,
    bindings: Sequence[str] | None,
    days: float | None,
) -> NewToken:
    owner = _one_owner(user, robot)
    most = loaded.settings.access.access_token_days
    if days is not None and days > most:
        raise UsageError(f"--days can be at most {most:g} days here (setting access_token_days)")
    expires = None if days is None else time.time() + days * 86400

    async def work(opened: OpenedAccounts) -> NewToken:
        account = await _find(opened, owner, is_robot=robot is not None)
        held = await opened.principals.load(account.id)
        assert held is not None, "it was found a moment ago"
        return await opened.access_tokens.make(held.principal, name, bindings, expires, by=by())

    return work_on(loaded, work)


def _make_there(
    server: str, name: str, bindings: Sequence[str] | None, days: float | None, *, insecure: bool
) -> dict[str, object]:
    asked = {
        "name": name,
        **({"bindings": list(bindings)} if bindings is not None else {}),
        **({"expires": time.time() + days * 86400} if days is not None else {}),
    }
    made = run_async(open_client(server, insecure=insecure).ask("POST", "token", asked)).inner("data")
    named = ("id", "name", "owner", "expires", "token")
    return {**made.document, **{field: made.text(field) for field in named}}


@app.command("list", cls=Command)
@takes_settings("storage")
def list_tokens(
    loaded: LoadedSettings,
    user: User = None,
    robot: Robot = None,
    ended: Annotated[
        bool, typer.Option("--ended", help="List revoked and expired ones, too, in the local store.")
    ] = False,
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """List access tokens without their text: all or those of one account, and at a server your own."""
    asked = find_server(server)
    if asked is not None:
        _refuse_owner(user, robot)
        if ended:
            raise UsageError("--ended: a server lists those that still work")
        rows, _ = run_async(open_client(asked, insecure=insecure).ask_list("token", {}))
        shown = [_show_answered(each) for each in rows]
    else:
        shown = [_show(each) for each in _list_here(loaded, user, robot, ended=ended)]
    empty = "there are no access tokens; make one with: condery token create NAME"
    show_list(_Shown._fields, shown, json=json, empty=empty)


def _list_here(loaded: LoadedSettings, user: str | None, robot: str | None, *, ended: bool) -> Sequence[AccessToken]:
    async def work(opened: OpenedAccounts) -> Sequence[AccessToken]:
        account = None
        if user is not None or robot is not None:
            account = (await _find(opened, _one_owner(user, robot), is_robot=robot is not None)).id
        return await opened.access_tokens.list_tokens(account, with_ended=ended)

    return work_on(loaded, work)


@app.command("revoke", cls=Command)
@takes_settings("storage")
def revoke(
    loaded: LoadedSettings,
    token: Annotated[str, typer.Argument(metavar="ID", help="Its id, as the list has it.")],
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """End an access token at once, and everything that was made with it."""
    asked = find_server(server)
    if asked is None:
        work_on(loaded, lambda opened: opened.access_tokens.revoke(token, by=by()))
    else:
        if not token.isalnum() or not token.isascii():
            raise UsageError(f"{token} is not the id of a token; `condery token list` has them")
        run_async(open_client(asked, insecure=insecure).ask("DELETE", f"token/{token}"))
    echo("the token is revoked")


def _show(token: AccessToken) -> _Shown:
    until = moment(token.expires) if token.revoked is None else f"revoked {moment(token.revoked)}"
    limits = "everything" if token.bindings is None else token.bindings
    return _Shown(
        token.id, token.owner, token.name, limits, moment(token.created), until, moment(token.used), token.used_from
    )


def _show_answered(found: Fields) -> _Shown:
    """A token as a server tells of it. Raises ServerRefused."""
    bindings = found.document.get("bindings")
    limits = [str(each) for each in bindings] if isinstance(bindings, list) else "everything"
    created, until, used = (moment(found.time_or_none(each)) for each in ("created", "expires", "used"))
    from_where = found.text_or_none("used_from")
    return _Shown(found.text("id"), found.text("owner"), found.text("name"), limits, created, until, used, from_where)


def _refuse_owner(user: str | None, robot: str | None) -> None:
    """Raises UsageError."""
    if user is not None or robot is not None:
        option = "--user" if user is not None else "--robot"
        raise UsageError(f"{option}: a server has tokens of whoever asks; `--server=` works on the local store")


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
