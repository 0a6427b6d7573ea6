"""How many secrets an account may have, and that a token takes room from nothing but itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from auth.accounts.loading import PrincipalLoader
from auth.changing import AccessData
from auth.principal import Principal
from auth.role import Roles
from auth.sign_in.sessions import BrowserSessions
from auth.tokens import access_tokens
from auth.tokens.access_tokens import AccessTokens
from auth.tokens.account_secrets import MOST_OF_ACCOUNT, MOST_OF_TOKEN
from auth.tokens.credential import Credential
from auth.tokens.errors import AccessTokenInvalid, CredentialsInvalid
from auth.tokens.refresh_tokens import RefreshTokens
from storage.database.account_tables import access_token
from tests.support.auth.opened import TESTER, Opened

SERVICE = "registry.example.org"


@pytest.fixture
async def alice(opened: Opened, loader: PrincipalLoader) -> Principal:
    loaded = await loader.load(await opened.add_person("alice"))
    assert loaded
    return loaded.principal


@pytest.fixture
def tokens(data: AccessData) -> AccessTokens:
    return AccessTokens(data, Roles(), 30)


async def make(tokens: AccessTokens, owner: Principal, parent: str = "", name: str = "x") -> str:
    """The id of a new one, made with the token `parent`."""
    return (await tokens.make(replace(owner, token=parent), name, None, by=TESTER)).token.id


async def test_refresh_tokens_of_a_token_push_out_its_own(
    data: AccessData, tokens: AccessTokens, alice: Principal
) -> None:
    refresh = RefreshTokens(data, 30)
    own = Credential(alice.id, alice.epoch)
    one, other = [replace(own, access_token=await make(tokens, alice)) for _ in range(2)]
    docker = await refresh.make(own, SERVICE, "docker")
    of_other = await refresh.make(other, SERVICE, "ci")
    made = [await refresh.make(one, SERVICE, "ci") for _ in range(MOST_OF_ACCOUNT + 5)]
    for text in (docker, of_other, *made[-MOST_OF_TOKEN:]):
        assert (await refresh.find(text, SERVICE)).account == alice.id
    for text in made[:-MOST_OF_TOKEN]:
        with pytest.raises(CredentialsInvalid):
            await refresh.find(text, SERVICE)


async def test_refresh_tokens_of_a_password_push_out_its_own(
    data: AccessData, tokens: AccessTokens, alice: Principal
) -> None:
    refresh = RefreshTokens(data, 30)
    own = Credential(alice.id, alice.epoch)
    of_token = await refresh.make(replace(own, access_token=await make(tokens, alice)), SERVICE, "ci")
    made = [await refresh.make(own, SERVICE, "docker") for _ in range(MOST_OF_ACCOUNT + 1)]
    for text in (of_token, *made[1:]):
        await refresh.find(text, SERVICE)
    with pytest.raises(CredentialsInvalid):
        await refresh.find(made[0], SERVICE)


async def test_sessions_push_out_sessions(data: AccessData, alice: Principal) -> None:
    sessions = BrowserSessions(data, 1)
    made = [await sessions.make(Credential(alice.id, alice.epoch)) for _ in range(MOST_OF_ACCOUNT + 1)]
    await sessions.find(made[1])
    with pytest.raises(CredentialsInvalid):
        await sessions.find(made[0])


async def test_tokens_of_a_token_take_room_from_it_alone(
    tokens: AccessTokens, alice: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "MOST_BELOW", 4)
    monkeypatch.setattr(access_tokens, "MOST_LIVE", 3)
    ci, other = [await make(tokens, alice) for _ in range(2)]
    child = await make(tokens, alice, ci)
    # those of its children are its own, too
    grandchildren = [await make(tokens, alice, child) for _ in range(2)]
    await make(tokens, alice, ci)
    for parent in (ci, child, *grandchildren):
        with pytest.raises(AccessTokenInvalid, match="4 tokens were made with this one"):
            await make(tokens, alice, parent)
    for parent in ("", other):
        await make(tokens, alice, parent)
    with pytest.raises(AccessTokenInvalid, match="3 tokens of this account"):
        await make(tokens, alice)
    await make(tokens, alice, other)
    # one that has ended frees its place
    await tokens.revoke(grandchildren[0], by=TESTER)
    await make(tokens, alice, child)
    with pytest.raises(AccessTokenInvalid):
        await make(tokens, alice, ci)


async def test_making_and_revoking_leaves_a_bounded_number_of_rows(
    data: AccessData, tokens: AccessTokens, alice: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "MOST_ENDED", 5)
    kept = await make(tokens, alice, name="kept")
    for number in range(30):
        await tokens.revoke(await make(tokens, alice, kept, f"{number}"), by=TESTER)
    async with data.database.reading() as connection:
        count = (await connection.execute(select(func.count()).select_from(access_token))).scalar_one()
    assert count <= 1 + 5 + 1
    assert [each.id for each in await tokens.list_tokens(alice.id)] == [kept]
    ended = [each.name for each in await tokens.list_tokens(alice.id, with_ended=True) if each.id != kept]
    assert ended == [f"{number}" for number in range(24, 30)], "the latest are still listed"
