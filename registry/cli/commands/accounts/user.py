"""`condery user`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import (
    Force,
    PasswordFile,
    by,
    moment,
    read_password,
    show_list,
    state_of,
    work_on,
)
from registry.cli.display import echo
from registry.cli.options import AsJson, UsageError, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from auth.accounts.account import Account
    from registry.access.accounts import OpenedAccounts

app = typer.Typer(cls=Group, help="Add, list and change the accounts of people.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the account.")]
Issuer = Annotated[str, typer.Option("--issuer", metavar="ISSUER", help="Where they sign in: proxy, or a URL.")]
Subject = Annotated[str, typer.Option("--subject", metavar="TEXT", help="What they are called there.")]


@app.command("add", cls=Command)
@takes_settings("storage")
def add(
    loaded: LoadedSettings,
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="Make them admin of everything.")] = False,
    display_name: Annotated[
        str | None, typer.Option("--display-name", metavar="TEXT", help="Their name as people write it.")
    ] = None,
    password_file: PasswordFile = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="They sign in elsewhere, or with access tokens alone.")
    ] = False,
    take_namespace: Annotated[
        bool, typer.Option("--take-namespace", help="Let them have the namespace of their name that is there already.")
    ] = False,
) -> None:
    """Add a person. They are admin of the namespace of their own name.

    The password is asked for, or read from standard input or a file.
    """
    if no_password and password_file is not None:
        raise UsageError("--no-password and --password-file contradict each other")
    password = None if no_password else read_password(password_file)

    async def work(opened: OpenedAccounts) -> bool:
        await opened.accounts.add_person(
            name,
            password,
            by=by(),
            display_name=display_name,
            administrator=admin,
            take_namespace=take_namespace,
        )
        return await opened.accounts.has_administrator()

    has_administrator = work_on(loaded, work, new=True)
    echo(f"added the user {name}")
    if not has_administrator:
        remedy = f"condery user passwd {name}" if admin else f"condery role bind --user {name} '*=admin'"
        echo(f"nobody who can sign in is admin of everything yet; for {name}: {remedy}", err=True)


@app.command("list", cls=Command)
@takes_settings("storage")
def list_users(loaded: LoadedSettings, json: AsJson = False) -> None:
    """List the accounts of people."""
    users = work_on(loaded, lambda opened: opened.accounts.list_all("person"))
    columns = ("name", "display_name", "state", "created", "signed_in")
    show_list(columns, map(_row, users), json=json, empty="there are no users; add one with: condery user add NAME")


def _row(user: Account) -> tuple[str | None, ...]:
    return user.name, user.display_name, state_of(user), moment(user.created), moment(user.signed_in)


@app.command("passwd", cls=Command)
@takes_settings("storage")
def passwd(loaded: LoadedSettings, name: Name, password_file: PasswordFile = None) -> None:
    """Set the password of a person.

    Whatever is signed in with the old one has to sign in again; access tokens stay.
    """
    password = read_password(password_file)
    work_on(loaded, lambda opened: opened.accounts.set_password(name, password, by=by()))
    echo(f"the password of {name} is set")


@app.command("sign-out", cls=Command)
@takes_settings("storage")
def sign_out(
    loaded: LoadedSettings,
    name: Name,
    tokens: Annotated[bool, typer.Option("--tokens", help="End all their other access tokens, too.")] = False,
) -> None:
    """End everything that a person is signed in with, and the access tokens that condery login made."""

    async def work(opened: OpenedAccounts) -> tuple[Account, int]:
        await opened.accounts.sign_out(name, by=by(), tokens=tokens)
        found = await opened.accounts.find(name)
        listed = [each.id for each in await opened.access_tokens.list_tokens(found.id)]
        # one that was made with another has ended with it, though it is listed
        limits = [await opened.access_tokens.find_limits(each, found.id) for each in listed]
        return found, sum(each is not None for each in limits)

    found, count = work_on(loaded, work)
    echo(f"{name} is signed out everywhere")
    if count:
        option = "--robot" if found.kind == "robot" else "--user"
        echo(f"access tokens that still work: {count}; see: condery token list {option} {name}", err=True)


@app.command("disable", cls=Command)
@takes_settings("storage")
def disable(loaded: LoadedSettings, name: Name, force: Force = False) -> None:
    """Refuse a person, their tokens and their robots, until they are enabled again."""
    work_on(loaded, lambda opened: opened.accounts.disable(name, force=force, by=by()))
    echo(f"{name} is disabled")


@app.command("enable", cls=Command)
@takes_settings("storage")
def enable(loaded: LoadedSettings, name: Name) -> None:
    """Let a disabled person in again."""
    work_on(loaded, lambda opened: opened.accounts.enable(name, by=by()))
    echo(f"{name} is enabled")


@app.command("connect", cls=Command)
@takes_settings("storage")
def connect(loaded: LoadedSettings, name: Name, subject: Subject, issuer: Issuer = "proxy") -> None:
    """Let somebody who signs in elsewhere use an account that is there already."""
    work_on(loaded, lambda opened: opened.identities.connect(name, issuer, subject, by=by()))
    echo(f"{subject} of {issuer} is {name} here")


@app.command("disconnect", cls=Command)
@takes_settings("storage")
def disconnect(loaded: LoadedSettings, name: Name, issuer: Issuer = "proxy", force: Force = False) -> None:
    """End that, with the memberships that came with it, and sign the account out."""
    work_on(loaded, lambda opened: opened.identities.disconnect(name, issuer, force=force, by=by()))
    echo(f"{name} is nobody of {issuer} any more")


@app.command("delete", cls=Command)
@takes_settings("storage")
def delete(loaded: LoadedSettings, name: Name, force: Force = False) -> None:
    """Delete an account with its tokens, bindings and robots. Repositories stay."""
    work_on(loaded, lambda opened: opened.accounts.delete(name, force=force, by=by()))
    echo(f"deleted {name}")
