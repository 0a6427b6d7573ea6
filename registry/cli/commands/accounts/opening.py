"""What the commands of this folder share: accounts over the store, passwords from people, and lists."""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table

from registry.cli.display import SafeConsole, echo_json
from registry.cli.options import UsageError, need_data, run_async
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from auth.accounts.account import Account
    from auth.audit.actor import Actor
    from registry.access.accounts import OpenedAccounts

T = TypeVar("T")

MOST_BYTES = 4096

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", metavar="PATH", help="File whose first line is the password, instead of being asked for it."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Do it even if nobody is left who can sign in and is admin of everything.")
]


def work_on(loaded: LoadedSettings, work: Callable[[OpenedAccounts], Awaitable[T]], *, new: bool = False) -> T:
    """Run `work` on the accounts of the store. Raises UsageError if there is no store, unless it may be `new`."""
    from registry.logs.lines import configure

    settings = loaded.settings
    configure(loaded.command_log)
    if not new and settings.storage.database is None:
        need_data(settings.data_directory)

    async def run() -> T:
        async with _opened(settings) as opened:
            return await work(opened)

    return run_async(run())


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[OpenedAccounts]:
    from registry.access.accounts import open_accounts
    from storage.store import open_store

    async with open_store(settings.storage) as store:
        with open_accounts(settings, store) as opened:
            yield opened


def by() -> Actor:
    """Whoever runs the command."""
    from auth.audit.actor import Actor

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Actor.operator(unix_user=name)


def read_password(path: Path | None, *, new: bool = True) -> str:
    """A password; a new one is typed twice. Raises UsageError."""
    return read_secret(path, "password", "--password-file", new=new)


def read_secret(path: Path | None, what: str, option: str, *, new: bool = False) -> str:
    """The first line of a file or of standard input. At a terminal it is asked for unseen, a new one twice.

    Never an argument, which every user of the machine could read. Raises UsageError, which calls it `what`.
    """
    if path is not None:
        with path.open("rb") as file:
            return _first_line(file.read(MOST_BYTES), what, option)
    if sys.stdin.isatty():
        return str(typer.prompt(what.capitalize(), hide_input=True, confirmation_prompt=new, err=True))
    return _first_line(sys.stdin.buffer.read(MOST_BYTES), what, option)


def _first_line(data: bytes, what: str, option: str) -> str:
    line = data.partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise UsageError(f"no {what} was given: type it, or pass it by {option} or standard input")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"the {what} is not UTF-8 text") from None


def show_list(columns: Sequence[str], rows: Iterable[Sequence[object]], *, json: bool, empty: str) -> None:
    """Print rows as a table, or as a JSON list of objects; with no rows `empty` is said on standard error."""
    listed = list(rows)
    if json:
        echo_json([dict(zip(columns, row, strict=True)) for row in listed])
        return
    if not listed:
        SafeConsole(stderr=True, highlight=False).print(empty)
        return
    table = Table()
    for column in columns:
        # an id is copied from here
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "id")
    for row in listed:
        table.add_row(*map(_cell, row))
    SafeConsole(highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, (list, tuple)) else str(value)


def moment(seconds: float | None) -> str | None:
    """UNIX seconds as people and programs read them."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def state_of(account: Account) -> str:
    if account.disabled:
        return "disabled"
    if account.is_refused(time.time()):
        return "expired"
    return "active" if account.expires is None else f"until {moment(account.expires)}"
