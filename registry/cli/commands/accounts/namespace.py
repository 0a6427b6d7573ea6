"""`condery namespace`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import by, check_namespace, moment, show_list, work_on
from registry.cli.display import echo, echo_json
from registry.cli.options import AsJson, UsageError, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from registry.access.accounts import OpenedAccounts

app = typer.Typer(
    cls=Group,
    help="Create, list and delete namespaces that hold roles, policies, credentials or quotas. Pushing needs none.",
    no_args_is_help=True,
)

MOST_BYTES = 1 << 62
"""The databases' largest number is a little less than twice this."""

Name = Annotated[str, typer.Argument(metavar="NAMESPACE", help="Name of the namespace.")]


@app.command("create", cls=Command)
@takes_settings("storage")
def create(loaded: LoadedSettings, name: Name) -> None:
    """Create a namespace. Nobody may do anything in it by that alone, but a person of its name: bind roles."""

    async def work(opened: OpenedAccounts) -> bool:
        await opened.namespaces.create(name, by=by())
        return name in {each.name for each in await opened.accounts.list_all("person")}

    is_persons = work_on(loaded, work, new=True)
    echo(f"created the namespace {name}")
    if is_persons:
        echo(f"the user {name} is admin of it: it is the namespace of their name", err=True)


@app.command("list", cls=Command)
@takes_settings("storage")
def list_namespaces(loaded: LoadedSettings, json: AsJson = False) -> None:
    """List the namespaces that were created."""
    namespaces = work_on(loaded, lambda opened: opened.namespaces.list_all())
    rows = ((each.name, moment(each.created), each.created_by, _write_quota(each.quota)) for each in namespaces)
    empty = "no namespace was created; create one with: condery namespace create NAMESPACE"
    show_list(("name", "created", "created_by", "quota"), rows, json=json, empty=empty)


@app.command("quota", cls=Command)
@takes_settings("storage", "upkeep")
def quota(
    loaded: LoadedSettings,
    name: Name,
    size: Annotated[
        str | None,
        typer.Argument(
            metavar="[SIZE]",
            help="Size such as 10GB, none for no limit, or default for the setting namespace_quota. Unset, it shows "
            "the quota and what the namespace holds.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show or set how much the repositories of a namespace may hold. It holds at once, also on a running server."""
    if size is not None:
        own = _read_quota(size)
        work_on(loaded, lambda opened: opened.namespaces.set_quota(name, own, by=by()))
        echo(f"set the quota of the namespace {name} to {_write_quota(own)}")
        return
    need_data(loaded.settings.data_directory)
    found = run_async(_measure(loaded.settings, name))
    if json:
        echo_json(found)
        return
    limit, source = found["limit"], "its own quota" if found["quota"] != "default" else "the setting namespace_quota"
    echo(f"the namespace {name} holds {found['held']:,} bytes")
    echo(f"{f'it may hold {limit:,} bytes' if limit else 'it has no limit'} by {source}")


async def _measure(settings: Settings, name: str) -> dict[str, Any]:
    from registry.access.accounts import open_accounts
    from storage.store import open_store

    async with open_store(settings.storage, settings.limits) as store:
        await check_namespace(settings, store, name)
        with open_accounts(settings, store) as opened:
            own = await opened.namespaces.find_quota(name)
        held = await store.repositories.room.measure(name)
    limit = settings.upkeep.namespace_quota if own is None else own
    return {"namespace": name, "quota": _write_quota(own), "limit": limit, "held": held}


def _write_quota(own: int | None) -> str | int:
    return "default" if own is None else own or "none"


def _read_quota(text: str) -> int | None:
    from storage.section import parse_size

    if text in ("default", "none"):
        return None if text == "default" else 0
    try:
        size = parse_size(text)
    except ValueError as error:
        raise UsageError(f"{error}, none or default") from None
    if size == 0:
        # it could mean either, and is kept for no limit
        raise UsageError(f"a quota of {text} would let nothing in; for no limit, write none")
    if size > MOST_BYTES:
        raise UsageError(f"{text} is more than any disk has; for no limit, write none")
    return size


@app.command("delete", cls=Command)
@takes_settings("storage")
def delete(loaded: LoadedSettings, name: Name) -> None:
    """Delete an empty namespace with its bindings and credentials."""
    work_on(loaded, lambda opened: opened.namespaces.delete(name, by=by()))
    echo(f"deleted the namespace {name}")
