"""Opens what a command works on: the local store, or a server that is named by an option or a variable."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from registry.cli.command import SERVER
from registry.cli.environments.place import Place
from registry.cli.options import UsageError, need_data, run_async
from registry.cli.origin import read_origin
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from registry.cli.environments.client import Client
    from registry.settings.model import Settings

T = TypeVar("T")

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="SERVER",
        help="Ask this running server, such as localhost:5000, and not the local store. Default: CONDERY_SERVER. The "
        "access token is CONDERY_TOKEN, or that of `condery login`.",
        show_default=False,
        rich_help_panel=SERVER,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Take an address of another machine with http://, which encrypts nothing.",
        rich_help_panel=SERVER,
    ),
]


def work_at(
    loaded: LoadedSettings,
    server: str | None,
    insecure: bool,
    work: Callable[[Place], Awaitable[T]],
    *,
    builds: bool = False,
    new: bool = False,
) -> T:
    """Run `work` where it is to be done. `builds` says whether it has something built, or may end a build.

    Raises UsageError if there is no store, unless it may be `new`.
    """
    from registry.logs.lines import configure

    log = loaded.command_log
    if builds and "log_level" not in loaded.origins:
        # the log of a build, which is shown, says why it fails
        log = log.model_copy(update={"log_level": "error"})
    configure(log)
    asked = find_server(server)
    if asked is not None:
        client = open_client(asked, insecure=insecure)
        return run_async(_work_there(client, work))
    if not new and loaded.settings.storage.database is None:
        need_data(loaded.settings.data_directory)
    return run_async(_work_here(loaded.settings, work, builds=builds))


def find_server(option: str | None) -> str | None:
    """The server that is to be asked; None for the local store, which an empty option means as well."""
    from registry.settings.client import server_variable

    return (option if option is not None else server_variable()) or None


def open_client(server: str, *, insecure: bool) -> Client:
    """Raises UsageError."""
    from registry.cli.environments.client import Client
    from registry.cli.logins import LoginFile, own_file
    from registry.settings.client import TOKEN, token_variable

    origin = read_origin(server, insecure=insecure)
    token = token_variable() or LoginFile(own_file()).find_secret(origin.authority)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UsageError(f"{TOKEN} is no access token")
    return Client(origin, token)


async def _work_there(client: Client, work: Callable[[Place], Awaitable[T]]) -> T:
    from registry.cli.environments.there import There

    return await work(There(client))


async def _work_here(settings: Settings, work: Callable[[Place], Awaitable[T]], *, builds: bool) -> T:
    async with _open_here(settings, builds=builds) as place:
        return await work(place)


@contextlib.asynccontextmanager
async def _open_here(settings: Settings, *, builds: bool) -> AsyncIterator[Place]:
    from registry.cli.environments.here import Here
    from registry.cli.local import open_builder
    from storage.store import open_store

    async with open_store(settings.storage) as store:
        if not builds:
            yield Here(settings, store)
            return
        async with open_builder(settings, store) as service:
            yield Here(settings, store, service.environments)
