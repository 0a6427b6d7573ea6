"""Access tokens that end while they are used, and tokens of a clock that was ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Table, update

from auth.accounts.bindings import Holder
from auth.accounts.loading import PrincipalLoader
from auth.changing import AccessData
from auth.role import Roles
from auth.tokens.access_tokens import AccessTokens
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.refresh_tokens import RefreshTokens
from storage.database.account_tables import access_token, refresh_token
from tests.support.auth.opened import TESTER, Opened


async def test_a_token_that_has_ended_shows_and_revokes_nothing(
    data: AccessData, opened: Opened, loader: PrincipalLoader
) -> None:
    account = await opened.add_person("alice")
    await opened.bindings.bind(Holder("account", "alice"), "team/*=admin", by=TESTER)
    loaded = await loader.load(account)
    assert loaded
    tokens = AccessTokens(data, Roles(), 30)
    other = (await tokens.make(loaded.principal, "other", None, by=TESTER)).token
    limited = (await tokens.make(loaded.principal, "limited", ["team/*=viewer"], by=TESTER)).token
    sender = replace(loaded.principal, token=limited.id)
    assert [each.id for each in await tokens.list_for(sender)] == [limited.id]
    await tokens.revoke(limited.id, by=TESTER)
    # the request of `sender` was let in before that
    with pytest.raises(CredentialsInvalid):
        await tokens.list_for(sender)
    with pytest.raises(CredentialsInvalid):
        await tokens.revoke_for(sender, other.id, by=TESTER)
    assert [each.id for each in await tokens.list_for(loaded.principal)] == [other.id]


async def move_ahead(data: AccessData, table: Table) -> None:
    """As if a clock that was a year ahead had made all rows."""
    year = 365 * 86400.0
    async with data.changing() as connection:
        await connection.execute(update(table).values(created=table.c.created + year, expires=table.c.expires + year))


async def test_an_access_token_of_a_clock_that_was_ahead_is_none(
    data: AccessData, opened: Opened, loader: PrincipalLoader
) -> None:
    loaded = await loader.load(await opened.add_person("alice"))
    assert loaded
    tokens = AccessTokens(data, Roles(), 30)
    text = (await tokens.make(loaded.principal, "ci", None, by=TESTER)).text
    assert (await tokens.find(text)).account == loaded.principal.id
    await move_ahead(data, access_token)
    with pytest.raises(CredentialsInvalid):
        await tokens.find(text)


async def test_a_refresh_token_of_a_clock_that_was_ahead_is_none(data: AccessData, opened: Opened) -> None:
    tokens = RefreshTokens(data, 30)
    text = await tokens.make(Credential(await opened.add_person("alice")), "condery", "docker")
    await tokens.find(text, "condery")
    await move_ahead(data, refresh_token)
    with pytest.raises(CredentialsInvalid):
        await tokens.find(text, "condery")
