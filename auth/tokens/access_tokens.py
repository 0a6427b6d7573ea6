"""Access tokens: what people and CI make, name, limit to bindings, list and revoke. Only a hash is stored.

A token that was made with another one ends with it, and is limited as that one is, whatever its own row says.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.account import new_id
from auth.accounts.bindings import check_subset
from auth.audit.actor import Actor
from auth.audit.log import append
from auth.binding import Binding, parse_binding
from auth.changing import AccessData
from auth.grants import Grants
from auth.principal import Principal
from auth.role import Roles
from auth.tokens.credential import Credential, Limit
from auth.tokens.errors import AccessTokenInvalid, AccessTokenUnknown, CredentialsInvalid
from auth.tokens.secrets_text import hash_of, new_access_token
from storage.clock import iso
from storage.database.account_tables import access_token, account
from storage.database.sql_clock import is_ahead
from storage.errors import quote
from storage.use_notes import UseNotes

DAY = 24 * 3600.0
USE_SECONDS = 300.0
"""A use is noted at most once in this time."""
MOST_LIVE = 1000
"""Tokens of one account that hold at the same time, besides those that were made with one of these."""
MOST_BELOW = 50
"""Tokens that hold at the same time and were made with one token, or with one that was made with it."""
MOST_ENDED = 100
"""Tokens of one account that have ended and can still be listed."""
MOST_BINDINGS = 100
LONGEST_NAME = 255
MOST_PARENTS = 4
"""A token that was made with one that was made with one ..."""

_HOLDS = (access_token.c.revoked.is_(None),)


@dataclass(frozen=True)
class AccessToken:
    """One as it is listed. Times are UNIX seconds."""

    id: str
    account: str
    owner: str
    """The name of the account."""
    name: str
    bindings: tuple[str, ...] | None
    """What it is limited to; None for all that its owner may."""
    parent: str
    """The token that it was made with."""
    primary_namespace: str | None
    """That of whoever shows it and names none; None for the owner's own."""
    created: float
    expires: float | None
    revoked: float | None
    used: float | None
    used_from: str | None

    def holds(self, now: float) -> bool:
        return self.revoked is None and (self.expires is None or self.expires > now)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "owner": self.owner,
            "bindings": list(self.bindings) if self.bindings is not None else None,
            "created": iso(self.created),
            "expires": None if self.expires is None else iso(self.expires),
            "revoked": None if self.revoked is None else iso(self.revoked),
            "used": None if self.used is None else iso(self.used),
            "used_from": self.used_from,
        }


class NewToken(NamedTuple):
    """`text` is shown once, and stored nowhere."""

    text: str
    token: AccessToken

    def __repr__(self) -> str:
        return f"NewToken({self.token!r})"


class AccessTokens:
    """Those of all accounts, which hold for `most_days` at most."""

    def __init__(self, data: AccessData, roles: Roles, most_days: float) -> None:
        self._data = data
        self._roles = roles
        self._most_days = most_days
        self._uses = UseNotes(self._write_use, USE_SECONDS, "the use of an access token was not noted")

    def check_lifetime(self, seconds: float) -> None:
        """Raises AccessTokenInvalid for longer than any token may hold."""
        if seconds > self._most_days * DAY:
            raise AccessTokenInvalid(f"a token can hold for at most {self._most_days:.4g} days; ask for less time")

    async def make(
        self,
        maker: Principal,
        name: str,
        bindings: Sequence[str] | None,
        expires: float | None = None,
        *,
        by: Actor,
        primary_namespace: str | None = None,
        write: Callable[[AccessToken], str] | None = None,
    ) -> NewToken:
        """One for the account of `maker`, limited to `bindings`, until `expires` or as long as one may hold.

        `primary_namespace` gives no right there. `write` makes the text of one that has to have another form. Raises
        AccessTokenInvalid.
        """
        if not maker.id:
            raise AccessTokenInvalid(f"{maker.name} has no account that an access token could belong to")
        now = time.time()
        token = AccessToken(
            id=new_id(),
            account=maker.id,
            owner=maker.name,
            name=check_name(name),
            bindings=None if bindings is None else self._check_bindings(maker, bindings),
            parent=maker.token,
            primary_namespace=primary_namespace,
            created=now,
            expires=await self._check_expires(maker, expires, now),
            revoked=None,
            used=None,
            used_from=None,
        )
        text = new_access_token() if write is None else write(token)
        # nobody remembers that it was not there, so nothing has to be forgotten
        async with self._data.database.writing() as connection:
            await self._forget_ended(connection, maker.id, now)
            await self._check_number(connection, maker, now)
            await connection.execute(insert(access_token).values(**_write_row(token, text)))
            limits = {} if token.bindings is None else {"bindings": list(token.bindings)}
            await append(connection, by.did("token.create", token.owner, id=token.id, name=token.name, **limits))
        return NewToken(text, token)

    async def find(self, text: str) -> Credential:
        """What whoever shows `text` has proved; raises CredentialsInvalid."""
        table = access_token
        query = select(table.c.id, table.c.account, table.c.created, table.c.expires, account.c.epoch).join(
            account, account.c.id == table.c.account
        )
        async with self._data.database.reading() as connection:
            row = (await connection.execute(query.where(access_token.c.hash == hash_of(text), *_HOLDS))).first()
        # one that a clock made that was ahead would hold for as long as it was ahead
        if row is None or is_ahead(row.created, time.time()):
            raise CredentialsInvalid("there is no such access token")
        return Credential(row.account, row.epoch, row.id, expires=math.inf if row.expires is None else row.expires)

    async def find_limits(self, token_id: str, account_id: str) -> tuple[Limit, ...] | None:
        limits: list[Limit] = []
        async with self._data.database.reading() as connection:
            while token_id:
                row = (await connection.execute(select(access_token).where(access_token.c.id == token_id))).first()
                if row is None or row.revoked is not None or row.account != account_id or len(limits) > MOST_PARENTS:
                    return None
                if row.expires is not None and row.expires <= time.time():
                    return None
                bindings, token_id = _read_bindings(row.bindings)
                grants = None if bindings is None else Grants(self._parse_known(bindings))
                limits.append(Limit(grants, math.inf if row.expires is None else row.expires))
        return tuple(limits)

    async def list_tokens(self, account_id: str | None = None, *, with_ended: bool = False) -> Sequence[AccessToken]:
        """Those of an account, or of all, the oldest first."""
        query = select(access_token, account.c.name.label("owner")).join(account)
        if account_id is not None:
            query = query.where(access_token.c.account == account_id)
        async with self._data.database.reading() as connection:
            rows = await connection.execute(query.order_by(access_token.c.created, access_token.c.id))
            found = [_read_row(row) for row in rows]
        now = time.time()
        return [each for each in found if with_ended or each.holds(now)]

    async def revoke(self, token_id: str, account_id: str | None = None, *, by: Actor) -> None:
        """End it at once, everywhere; `account_id` is whose it has to be. Raises AccessTokenUnknown."""
        mine = [access_token.c.id == token_id, *_HOLDS]
        if account_id is not None:
            mine.append(access_token.c.account == account_id)
        named = select(access_token.c.name, account.c.name.label("owner")).join(account).where(*mine)
        async with self._data.changing() as connection:
            row = (await connection.execute(named)).first()
            done = await connection.execute(update(access_token).where(*mine).values(revoked=time.time()))
            if row is None or not done.rowcount:
                raise AccessTokenUnknown(token_id, by_operator=account_id is None)
            await append(connection, by.did("token.revoke", row.owner, id=token_id, name=row.name))

    async def list_for(self, principal: Principal) -> Sequence[AccessToken]:
        """Those that `principal` may know of: its account's; with a token that is limited, that one and its own.

        Raises CredentialsInvalid if the presented token does not hold any more.
        """
        visible = await self._visible(principal)
        found = await self.list_tokens(principal.id)
        return found if visible is None else [each for each in found if each.id in visible]

    async def revoke_for(self, principal: Principal, token_id: str, *, by: Actor) -> None:
        """Likewise. Raises AccessTokenUnknown, too."""
        visible = await self._visible(principal)
        if visible is not None and token_id not in visible:
            raise AccessTokenUnknown(token_id)
        await self.revoke(token_id, principal.id, by=by)

    async def find_expiry(self, principal: Principal) -> float | None:
        """When the token that was presented ends; None where none was."""
        limits = await self.find_limits(principal.token, principal.id) if principal.token else None
        return min(limit.expires for limit in limits) if limits else None

    async def find_primary_namespace(self, principal: Principal) -> str | None:
        """That of the token that was presented; None where none was, or it has none."""
        if not principal.token:
            return None
        table = access_token
        query = select(table.c.primary_namespace).where(table.c.id == principal.token, table.c.account == principal.id)
        async with self._data.database.reading() as connection:
            found: str | None = (await connection.execute(query)).scalar()
        return found

    async def _visible(self, principal: Principal) -> frozenset[str] | None:
        """The ids that a limited token may know of; None where nothing limits. Raises CredentialsInvalid."""
        limits = await self.find_limits(principal.token, principal.id)
        if limits is None:
            # revoked or expired since the request was let in
            raise CredentialsInvalid("the access token does not hold any more")
        if all(limit.grants is None for limit in limits):
            return None
        below = {principal.token}
        # parents are older, and listed first
        for each in await self.list_tokens(principal.id):
            if each.parent in below:
                below.add(each.id)
        return frozenset(below)

    def note_use(self, token_id: str, address: str) -> None:
        """Write down, now and then, that it is used."""
        self._uses.note((token_id, address), token_id=token_id)

    async def close(self) -> None:
        await self._uses.close()

    async def _write_use(self, use: tuple[str, str]) -> None:
        token_id, address = use
        values = {"used": time.time(), "used_from": address[:64]}
        async with self._data.database.writing() as connection:
            await connection.execute(update(access_token).where(access_token.c.id == token_id).values(**values))

    async def _check_expires(self, maker: Principal, expires: float | None, now: float) -> float:
        most = now + self._most_days * DAY
        if maker.token:
            limits = await self.find_limits(maker.token, maker.id)
            if limits is None:
                raise AccessTokenInvalid("the token that this is asked for with has ended")
            if len(limits) > MOST_PARENTS:
                raise AccessTokenInvalid("this token was made with one that was made with others; use one of those")
            most = min([most, *(limit.expires for limit in limits)])
        if expires is None:
            return most
        if not now < expires <= most:
            days = max(most - now, 0) / DAY
            raise AccessTokenInvalid(f"a token can hold from now for at most {days:.4g} days; ask for less time")
        return expires

    def _check_bindings(self, maker: Principal, texts: Sequence[str]) -> tuple[str, ...]:
        if not texts or len(texts) > MOST_BINDINGS:
            raise AccessTokenInvalid(f"a token can be limited to 1 to {MOST_BINDINGS} bindings such as team/*=viewer")
        try:
            bindings = [parse_binding(text, self._roles) for text in texts]
        except ValueError as error:
            raise AccessTokenInvalid(str(error)) from None
        for each in bindings:
            check_subset(maker, each)
        return tuple(dict.fromkeys(map(str, bindings)))

    async def _check_number(self, connection: AsyncConnection, maker: Principal, now: float) -> None:
        """Raises AccessTokenInvalid if there are as many as there may be.

        What is made with a token takes room from that token alone, not from its owner.
        """
        # several at once would each count before the others are there
        await connection.execute(select(account.c.id).where(account.c.id == maker.id).with_for_update())
        holding = (access_token.c.account == maker.id, *_HOLDS, access_token.c.expires > now)
        rows = await connection.execute(select(access_token.c.id, access_token.c.bindings).where(*holding))
        parents = {row.id: _read_bindings(row.bindings)[1] for row in rows}
        if not maker.token:
            count = sum(not parent for parent in parents.values())
            if count >= MOST_LIVE:
                raise AccessTokenInvalid(f"there are {count} tokens of this account; revoke some first")
        above = set(_chain(maker.token, parents))
        below = Counter(token for each in parents.values() for token in _chain(each, parents) if token in above)
        if max(below.values(), default=0) >= MOST_BELOW:
            raise AccessTokenInvalid(
                f"{MOST_BELOW} tokens were made with this one or with its maker; revoke some first"
            )

    async def _forget_ended(self, connection: AsyncConnection, account_id: str, now: float) -> None:
        """Whoever makes and revokes tokens again and again leaves the latest of them alone."""
        table = access_token
        ended = (table.c.account == account_id, or_(table.c.revoked.is_not(None), table.c.expires <= now))
        latest = select(table.c.id).where(*ended).order_by(func.coalesce(table.c.revoked, table.c.expires).desc())
        old = delete(table).where(*ended, table.c.id.not_in(latest.limit(MOST_ENDED)))
        await connection.execute(old)

    def _parse_known(self, texts: Sequence[str]) -> list[Binding]:
        """Roles that the settings do not have any more grant nothing."""
        return [parse_binding(text, self._roles) for text in texts if text.rpartition("=")[2] in self._roles.names]


def _chain(token_id: str, parents: Mapping[str, str]) -> Iterator[str]:
    """A token, the one that it was made with, the one that that was made with ..., as far as they hold."""
    while token_id:
        yield token_id
        token_id = parents.get(token_id, "")


def check_name(name: str) -> str:
    """What a person calls it; raises AccessTokenInvalid."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise AccessTokenInvalid(f"{quote(name)} is no name for a token: 1 to {LONGEST_NAME} printable characters")
    return name.strip()


def _write_bindings(bindings: Sequence[str] | None, parent: str) -> str | None:
    if not parent:
        return None if bindings is None else json.dumps(list(bindings))
    return json.dumps({"bindings": None if bindings is None else list(bindings), "parent": parent})


def _read_bindings(text: str | None) -> tuple[tuple[str, ...] | None, str]:
    """The bindings, and the token that it was made with."""
    document = json.loads(text) if text is not None else None
    if isinstance(document, Mapping):
        bindings, parent = document["bindings"], str(document["parent"])
    else:
        bindings, parent = document, ""
    return None if bindings is None else tuple(bindings), parent


def _write_row(token: AccessToken, text: str) -> Mapping[str, object]:
    return {
        "id": token.id,
        "account": token.account,
        "name": token.name,
        "hash": hash_of(text),
        "bindings": _write_bindings(token.bindings, token.parent),
        "primary_namespace": token.primary_namespace,
        "created": token.created,
        "expires": token.expires,
    }


def _read_row(row: Any) -> AccessToken:
    bindings, parent = _read_bindings(row.bindings)
    return AccessToken(
        id=row.id,
        account=row.account,
        owner=row.owner,
        name=row.name,
        bindings=bindings,
        parent=parent,
        primary_namespace=row.primary_namespace,
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
        used=row.used,
        used_from=row.used_from,
    )
