"""What somebody may know of and revoke with an access token that ends meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auth.accounts.bindings import Holder
from auth.accounts.loading import PrincipalLoader
from auth.changing import AccessData
from auth.role import Roles
from auth.tokens.access_tokens import AccessTokens
from auth.tokens.errors import CredentialsInvalid
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
