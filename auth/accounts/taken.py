"""Whether the name of a new person means something already: they would be admin of the namespace of that name.

A namespace need not have been created: to bind a role on `team/*` is enough for others to count on it, and so is a
setting that grants something there.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.content import first_repository
from auth.accounts.lookup import is_there
from auth.accounts.names import Names
from auth.errors import NameTaken
from storage.database.account_tables import account_group, binding, credential, namespace
from storage.quotas.bounds import begins_with

REMEDY = "choose another name, or --take-namespace if they are to be the admin of what is in it"


async def check_free(connection: AsyncConnection, names: Names, name: str) -> None:
    """Raise NameTaken for the name of a group, and for one under which others have something or are granted it."""
    if await is_there(connection, account_group, name):
        raise NameTaken(name, "a group", REMEDY)
    why = await _find_use(connection, names, name)
    if why is not None:
        raise NameTaken(name, "a namespace", f"{why}; {REMEDY}")


async def _find_use(connection: AsyncConnection, names: Names, name: str) -> str | None:
    """What the namespace of a name is in use for; None if nothing."""
    if await is_there(connection, namespace, name):
        return "condery namespace list shows it"
    repository = await first_repository(connection, name)
    if repository is not None:
        return f"it holds {repository}"
    on_it = select(binding.c.pattern, binding.c.role).where(begins_with(binding.c.pattern, f"{name}/"))
    found = (await connection.execute(on_it.order_by(binding.c.created, binding.c.id).limit(1))).first()
    if found is not None:
        return f"somebody was bound to {found.pattern}={found.role}, which condery role list shows"
    if names.is_granted(name):
        return "the settings grant something in it"
    held = select(func.count()).select_from(credential).where(credential.c.namespace == name)
    return "it has credentials" if (await connection.execute(held)).scalar() else None
