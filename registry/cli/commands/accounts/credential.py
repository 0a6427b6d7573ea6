"""`condery credential`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import by, moment, read_secret, show_list
from registry.cli.commands.accounts.vault import open_sealed
from registry.cli.display import echo
from registry.cli.options import AsJson, UsageError, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from storage.catalog.credential import Form
    from storage.catalog.credentials import ShownCredential
    from storage.events.outbox import Record

app = typer.Typer(
    cls=Group, help="Set, list and remove what a namespace shows to channels and registries.", no_args_is_help=True
)

Name = Annotated[
    str, typer.Argument(metavar="NAMESPACE", help="Namespace: that of on-demand names, or mirror, or one of a team.")
]
Address = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS",
        help="URL of a channel, or of all channels below it; for mirrors the host of a registry, with or without the "
        "beginning of a repository's name.",
    ),
]


@app.command("set", cls=Command)
@takes_settings("storage", "vault", "log")
def set_credential(
    loaded: LoadedSettings,
    namespace: Name,
    address: Address,
    username: Annotated[
        str | None, typer.Option("--username", metavar="NAME", help="Send the secret as the password of this user.")
    ] = None,
    conda_token: Annotated[
        bool, typer.Option("--conda-token", help="Send it as /t/TOKEN/ in the address, as anaconda.org wants it.")
    ] = False,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file", metavar="PATH", help="File whose first line is the secret; else it is asked for."
        ),
    ] = None,
) -> None:
    """Set what is shown to a channel or a registry for a namespace. It holds at once, also on a running server.

    The secret is asked for, or read from standard input or a file. Without --username and --conda-token it is sent as a
    bearer token. It is stored encrypted, and nobody can read it again.
    """
    from storage.catalog.credential import parse_address

    if username is not None and conda_token:
        raise UsageError("--username and --conda-token contradict each other")
    _prepare(loaded)
    kind, normal = parse_address(address)
    form: Form = "basic" if username is not None else "conda-token" if conda_token else "bearer"
    secret = read_secret(secret_file, "secret", "--secret-file")
    actor = by()

    async def work(settings: Settings) -> None:
        async with open_sealed(settings) as opened:
            await opened.credentials.put(
                namespace,
                kind,
                normal,
                form,
                secret,
                username or "",
                by=actor.name,
                root=settings.builder.root,
                record=_record("credential.set", namespace, normal),
            )

    run_async(work(loaded.settings))
    echo(f"set the credential of namespace {namespace} for {normal}")
    if kind == "registry" and normal.partition("/")[0] not in loaded.settings.mirror.mirrors:
        echo(f"the setting mirrors does not name {normal.partition('/')[0]} yet", err=True)


@app.command("list", cls=Command)
@takes_settings("storage", "vault", "log")
def list_credentials(
    loaded: LoadedSettings,
    namespace: Annotated[
        str | None, typer.Argument(metavar="[NAMESPACE]", help="Namespace; all of them when unset.")
    ] = None,
    json: AsJson = False,
) -> None:
    """List credentials, without their secrets."""
    _prepare(loaded)

    async def work(settings: Settings) -> list[ShownCredential]:
        async with open_sealed(settings) as opened:
            return await opened.credentials.list_all(namespace)

    rows = [
        (
            each.namespace,
            each.kind,
            each.address,
            each.form or f"needs the key {each.key}",
            each.username,
            each.key,
            moment(each.created),
            each.created_by,
        )
        for each in run_async(work(loaded.settings))
    ]
    columns = ("namespace", "kind", "address", "sent_as", "username", "key", "set", "by")
    show_list(columns, rows, json=json, empty="there are no credentials; set one with: condery credential set")


@app.command("remove", cls=Command)
@takes_settings("storage", "vault", "log")
def remove(loaded: LoadedSettings, namespace: Name, address: Address) -> None:
    """Remove a credential. What was made with it stays with its namespace."""
    from storage.catalog.credential import parse_address

    _prepare(loaded)
    _, normal = parse_address(address)

    async def work(settings: Settings) -> None:
        async with open_sealed(settings) as opened:
            await opened.credentials.remove(namespace, normal, _record("credential.remove", namespace, normal))

    run_async(work(loaded.settings))
    echo(f"removed the credential of namespace {namespace} for {normal}")


def _prepare(loaded: LoadedSettings) -> None:
    from registry.logs.lines import configure

    configure(loaded.command_log)
    if loaded.settings.storage.database is None:
        need_data(loaded.settings.data_directory)


def _record(action: Literal["credential.set", "credential.remove"], namespace: str, address: str) -> Record[None]:
    from auth.audit.log import append

    actor = by()

    async def record(connection: AsyncConnection, _: None) -> None:
        await append(connection, actor.did(action, namespace, address=address))

    return record
