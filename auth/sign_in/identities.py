"""The accounts of people whom an issuer or a proxy has signed in.

A person there is known by issuer and subject, which stay the same. A name or an address may be given to somebody else,
so it never leads to an account: it only names a new one, and if that name is taken, an administrator decides.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.accounts import Accounts, end_sessions
from auth.accounts.administrators import Standing, find_standing, keeping_one
from auth.accounts.lookup import find_of_kind
from auth.audit.actor import Actor
from auth.audit.log import append
from auth.changing import AccessData
from auth.errors import NameTaken, NameUnfit
from auth.sign_in.errors import IdentityTaken, IdentityUnfit, IdentityUnknown, SignInRefused
from auth.tokens.credential import Credential
from storage.database.account_tables import account, account_group, identity, membership

PROXY = "proxy"
"""The issuer of people whom a trusted proxy has signed in."""
LONGEST = 255
"""Characters of an issuer and of a subject."""
MOST_GROUPS = 500
"""Of one person."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """Somebody by the word of an issuer."""

    issuer: str
    subject: str
    name: str
    """What an account that is made for them is called."""
    groups: frozenset[str] | None = None
    """Groups that they are in there; None if the issuer does not say."""


class Identities:
    """The table of identities, with `accounts`."""

    def __init__(self, data: AccessData, accounts: Accounts) -> None:
        self._data = data
        self._accounts = accounts

    async def sign_in(self, found: Identity, *, client: str = "") -> Credential:
        """What the person has proved. An account is made at the first time, and groups are brought up to date.

        Only groups that exist here count. Raises SignInRefused.
        """
        _check(found)
        async with self._data.database.reading() as connection:
            known = await _find(connection, found)
            if known is not None and not await _read_changes(connection, known.account, found):
                return known
        by = Actor(found.name, "person", client=client, detail={"issuer": found.issuer, "subject": found.subject})
        async with self._data.changing_alone() as connection:
            known = await _find(connection, found) or await self._add(connection, found, by)
            await _reconcile(connection, known.account, found, by)
        return known

    async def renew(self, found: Identity, account_id: str, *, client: str = "") -> None:
        """Bring the groups of somebody up to date who signed in before, to that account.

        Raises SignInRefused if it is not connected with them any more.
        """
        _check(found)
        by = Actor(found.name, "person", client=client, detail={"issuer": found.issuer, "subject": found.subject})
        async with self._data.database.reading() as connection:
            await _check_connected(connection, found, account_id)
            if await _read_changes(connection, account_id, found) is None:
                return
        async with self._data.changing_alone() as connection:
            await _check_connected(connection, found, account_id)
            await _reconcile(connection, account_id, found, by)

    async def connect(self, name: str, issuer: str, subject: str, *, by: Actor) -> None:
        """Let whoever is `subject` there sign in to an account.

        Raises AccountUnknown, WrongKind, IdentityTaken, IdentityUnfit.
        """
        for text in (issuer, subject):
            if not _is_text(text):
                raise IdentityUnfit(text)
        async with self._data.changing_alone() as connection:
            person = await find_of_kind(connection, name, "person", "robots have access tokens")
            mine = identity.c.issuer == issuer, identity.c.subject == subject
            held = select(account.c.name).join(identity, identity.c.account == account.c.id).where(*mine)
            holder = (await connection.execute(held)).scalar()
            if holder == name:
                return
            if holder is not None:
                raise IdentityTaken(subject, issuer, holder)
            await _insert(connection, person.id, issuer, subject)
            await append(connection, by.did("user.connect", name, issuer=issuer, subject=subject))

    async def disconnect(self, name: str, issuer: str, *, by: Actor, force: bool = False) -> None:
        """End that, what the groups there have given, and everything that is signed in, but no access tokens.

        Raises AccountUnknown, WrongKind, IdentityUnknown, and LastAdministrator unless with `force`.
        """
        async with self._data.changing_alone() as connection, keeping_one(connection, force=force):
            person = await find_of_kind(connection, name, "person")
            mine = identity.c.account == person.id, identity.c.issuer == issuer
            gone = await connection.execute(delete(identity).where(*mine))
            if not gone.rowcount:
                raise IdentityUnknown(name, issuer)
            reported = membership.c.account == person.id, membership.c.source == issuer
            await connection.execute(delete(membership).where(*reported))
            await end_sessions(connection, person.id)
            await append(connection, by.did("user.disconnect", name, issuer=issuer))

    async def _add(self, connection: AsyncConnection, found: Identity, by: Actor) -> Credential:
        """Raises SignInRefused."""
        issuer, subject = shlex.quote(found.issuer), shlex.quote(found.subject)
        command = f"condery user connect NAME --issuer {issuer} --subject {subject}"
        remedy = f"an administrator can connect an account: {command}"
        try:
            made = await self._accounts.add_within(connection, found.name, by=by)
        except NameTaken as error:
            raise SignInRefused(
                f"{error.name} is the name of {error.by} here already, which may be somebody else's; {remedy}"
            ) from None
        except NameUnfit as error:
            raise SignInRefused(f"{error}; {remedy}") from None
        await _insert(connection, made.id, found.issuer, found.subject)
        return Credential(made.id, made.epoch)


def _check(found: Identity) -> None:
    """Raises SignInRefused for one that an issuer must not say."""
    if not _is_text(found.subject):
        raise SignInRefused(f"{found.issuer} calls this user by no name of 1 to {LONGEST} printable characters")
    if found.groups is not None and len(found.groups) > MOST_GROUPS:
        # with some of them left out, a person would have rights by chance
        raise SignInRefused(
            f"{found.issuer} lists {len(found.groups)} groups of this user; at most {MOST_GROUPS} are read, so let it "
            "list only those that matter here"
        )


async def _check_connected(connection: AsyncConnection, found: Identity, account_id: str) -> None:
    """Raises SignInRefused."""
    known = await _find(connection, found)
    if known is None or known.account != account_id:
        raise SignInRefused(f"this account is not connected with this user of {found.issuer} any more")


def _is_text(text: str) -> bool:
    return 0 < len(text) <= LONGEST and text.isprintable()


async def _find(connection: AsyncConnection, found: Identity) -> Credential | None:
    query = select(account.c.id, account.c.epoch).join(identity, identity.c.account == account.c.id)
    mine = identity.c.issuer == found.issuer, identity.c.subject == found.subject
    row = (await connection.execute(query.where(*mine))).first()
    return Credential(row.id, row.epoch) if row is not None else None


async def _insert(connection: AsyncConnection, account_id: str, issuer: str, subject: str) -> None:
    row = {"issuer": issuer, "subject": subject, "account": account_id, "created": time.time()}
    await connection.execute(insert(identity).values(**row))


async def _read_changes(
    connection: AsyncConnection, account_id: str, found: Identity
) -> tuple[Collection[str], Collection[str]] | None:
    """The groups to join and to leave; None if there are none."""
    if found.groups is None:
        return None
    there = select(account_group.c.name).where(account_group.c.name.in_(sorted(found.groups)))
    wanted = set((await connection.execute(there)).scalars())
    reported = membership.c.account == account_id, membership.c.source == found.issuer
    current = set((await connection.execute(select(membership.c.group_name).where(*reported))).scalars())
    return (sorted(wanted - current), sorted(current - wanted)) if wanted != current else None


async def _reconcile(connection: AsyncConnection, account_id: str, found: Identity, by: Actor) -> None:
    joined, left = await _read_changes(connection, account_id, found) or ((), ())
    name = (await connection.execute(select(account.c.name).where(account.c.id == account_id))).scalar_one()
    # the issuer may call them something else, and that may be the name of another account
    by = replace(by, name=name)
    before = await find_standing(connection) if left else Standing.NONE
    for group in joined:
        row = {"account": account_id, "group_name": group, "source": found.issuer}
        await connection.execute(insert(membership).values(**row))
        await append(connection, by.did("group.join", group, user=name))
    for group in left:
        reported = membership.c.account == account_id, membership.c.source == found.issuer
        await connection.execute(delete(membership).where(*reported, membership.c.group_name == group))
        await append(connection, by.did("group.leave", group, user=name))
    # it is the provider's word, so it takes effect, and nobody is kept from signing in
    if await find_standing(connection) < min(before, Standing.FOR_NOW):
        log.warning(
            "nobody who can sign in is admin of everything",
            was=name,
            fix="condery role bind --user NAME '*=admin', then condery user passwd NAME",
        )
