"""What the commands of this folder share: accounts over the store, passwords from people, and lists."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.cells import cell_len, set_cell_size
from rich.table import Table

from registry.cli.display import SafeConsole, echo, echo_json
from registry.cli.options import UsageError, need_data, run_async
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings
from storage.text import printable

if TYPE_CHECKING:
    from auth.accounts.account import Account
    from auth.audit.actor import Actor
    from registry.access.accounts import OpenedAccounts
    from storage.store import Store

T = TypeVar("T")

TERMINAL_BYTES = 4095
"""The longest line that Linux takes from a terminal. What is beyond is dropped without a word."""

_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}):[0-9]{2}Z")

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
        async with _open_accounts(settings) as opened:
            return await work(opened)

    return run_async(run())


@contextlib.asynccontextmanager
async def _open_accounts(settings: Settings) -> AsyncIterator[OpenedAccounts]:
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


async def check_namespace(settings: Settings, store: Store, name: str) -> None:
    """Check that somebody created a namespace, the server fills it itself, or something was pushed to it.

    Raises NamespaceUnknown, which suggests similar ones.
    """
    from auth.accounts.names import is_name
    from auth.errors import NamespaceUnknown
    from registry.access.accounts import open_accounts
    from storage.oci import MIRROR_ROOT

    if name in (settings.builder.root, MIRROR_ROOT):
        return
    try:
        with open_accounts(settings, store) as opened:
            await opened.namespaces.find(name)
    except NamespaceUnknown:
        if not is_name(name) or not await store.repositories.room.measure(name):
            raise


def read_secret(path: Path | None, what: str, option: str, *, new: bool = False) -> str:
    """The first line of a file or of standard input. At a terminal it is asked for unseen, a new one twice.

    Never an argument, which every user of the machine could read. Raises UsageError, which calls it `what`.
    """
    if path is not None:
        with path.open("rb") as file:
            return _first_line(file, what, option)
    if sys.stdin.isatty():
        typed = str(typer.prompt(what.capitalize(), hide_input=True, confirmation_prompt=new, err=True))
        if len(typed.encode(errors="replace")) >= TERMINAL_BYTES:
            raise UsageError(f"a terminal cuts lines of {TERMINAL_BYTES} bytes; pass the {what} by {option}")
        return typed
    return _first_line(sys.stdin.buffer, what, option)


def _first_line(file: IO[bytes], what: str, option: str) -> str:
    from storage.disk.secret_file import read_all

    try:
        data = read_all(file)
    except ValueError as error:
        raise UsageError(f"the {what} is too long: {error}") from None
    line = data.partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise UsageError(f"no {what} was given: type it, or pass it by {option} or standard input")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"the {what} is not UTF-8 text") from None


def show_list(columns: Sequence[str], rows: Iterable[Sequence[object]], *, json: bool, empty: str) -> None:
    """Print rows as a table, or as a JSON list of objects; with no rows `empty` is said on standard error.

    Nothing is cut or folded: at a terminal that is too narrow for the table, each row has a block of its own, and what
    is read by a program has a line for each row.
    """
    listed = list(rows)
    if json:
        echo_json([dict(zip(columns, row, strict=True)) for row in listed])
        return
    if not listed:
        SafeConsole(stderr=True, highlight=False).print(empty)
        return
    console = SafeConsole(highlight=False)
    titles = [column.replace("_", " ") for column in columns]
    cells = [[printable(_cell(value)) for value in row] for row in listed]
    if not console.is_terminal:
        _show_lines([titles, *cells])
        return
    cells = [[_MOMENT.sub(r"\1 \2", cell) for cell in row] for row in cells]
    # with a frame and blanks around each column
    if sum(_widths([titles, *cells])) + 3 * len(titles) + 1 > console.width:
        _show_blocks(titles, cells)
        return
    table = Table()
    for title in titles:
        table.add_column(title, no_wrap=True)
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def _show_lines(rows: Sequence[Sequence[str]]) -> None:
    widths = _widths(rows)
    for row in rows:
        echo("  ".join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_blocks(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    width = max(map(len, titles))
    for number, row in enumerate(rows):
        if number:
            echo("")
        for title, cell in zip(titles, row, strict=True):
            if cell:
                echo(f"{title:<{width}}  {cell}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, (list, tuple)) else str(value)


def moment(seconds: float | None) -> str | None:
    """UNIX seconds as people and programs read them."""
    from storage.clock import iso

    return None if seconds is None else iso(seconds)


def state_of(account: Account) -> str:
    if account.disabled:
        return "disabled"
    if account.is_refused(time.time()):
        return "expired"
    return "active" if account.expires is None else f"until {moment(account.expires)}"
