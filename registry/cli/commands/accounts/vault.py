"""`condery vault`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import by
from registry.cli.display import echo
from registry.cli.options import need_data, reports_errors, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from auth.tokens.signing_keys import SigningKeys
    from storage.catalog.credentials import NamespaceCredentials
    from storage.store import Store
    from storage.vault.vault import Vault

app = typer.Typer(
    cls=Group, help="Make and rotate the keys that encrypt secrets in the database.", no_args_is_help=True
)


@app.command("new-key", cls=Command)
@reports_errors
def new_key() -> None:
    """Print a new key, for the first line of the file that vault_key_file names.

    To rotate: put it before the other lines, restart the servers, run condery vault rotate, and remove the other lines.
    """
    from storage.vault.key_text import new_key as make

    echo(make())


@app.command("rotate", cls=Command)
@takes_settings("storage", "vault", "log")
def rotate(
    loaded: LoadedSettings,
    forget: Annotated[bool, typer.Option("--forget", help="Delete what no key of the settings can decrypt.")] = False,
) -> None:
    """Encrypt all stored credentials and signing keys with the first key of the settings.

    Restart all servers with the new key first: they could not read what is encrypted with it.
    """
    from registry.logs.lines import configure

    settings = loaded.settings
    configure(loaded.command_log)
    if settings.storage.database is None:
        need_data(settings.data_directory)
    done = run_async(_rotate(settings, forget=forget))
    echo(
        f"{_count(done.credentials, 'credential')} and {_count(done.keys, 'signing key')} are encrypted with the key "
        f"{done.key}; no other is needed any more"
    )
    if done.forgotten:
        echo(f"{done.forgotten} that could not be decrypted are deleted", err=True)


@dataclass(frozen=True)
class _Done:
    key: str
    credentials: int
    keys: int
    forgotten: int


async def _rotate(settings: Settings, *, forget: bool) -> _Done:
    from auth.audit.log import append
    from storage.errors import VaultKeyMissing

    async with open_sealed(settings) as opened:
        key = opened.vault.newest
        if key is None:
            raise VaultKeyMissing
        credentials, lost = await opened.credentials.reseal(forget=forget)
        keys, lost_keys = await opened.signing_keys.reseal(forget=forget)
        done = _Done(key, credentials, keys, lost + lost_keys)
        async with opened.store.database.writing() as connection:
            await append(connection, by().did("vault.rotate", "", key=key, forgotten=done.forgotten))
        return done


@dataclass(frozen=True)
class Sealed:
    """What is encrypted in a store."""

    store: Store
    vault: Vault
    credentials: NamespaceCredentials
    signing_keys: SigningKeys


@contextlib.asynccontextmanager
async def open_sealed(settings: Settings) -> AsyncIterator[Sealed]:
    """Raises VaultKeysInvalid."""
    from auth.changing import AccessData
    from auth.tokens.signing_keys import SigningKeys
    from storage.catalog.credentials import NamespaceCredentials
    from storage.store import open_store
    from storage.vault.vault import Vault

    vault = Vault.open(settings.vault.vault_keys, settings.vault.vault_key_file)
    async with open_store(settings.storage) as store:
        yield Sealed(
            store,
            vault,
            NamespaceCredentials(store.database, store.changes, vault),
            SigningKeys(AccessData(store.database, store.changes), vault),
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
