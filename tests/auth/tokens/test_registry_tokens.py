"""Tokens of the token endpoint: ours are taken, and nothing that merely looks like one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth.changing import AccessData
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.registry_tokens import ISSUER, RegistryTokens
from auth.tokens.signing_keys import SigningKeys
from storage.database.engine import Database
from storage.events.changes import Changes
from tests.support.auth.forgeries import FORGERIES, SERVICE, Forger

SCOPES = {"repository:team/app": frozenset({"pull", "push"}), "registry:catalog": frozenset({"*"})}
ALICE = Credential("id-of-alice", 3, "id-of-token")


@pytest.fixture
async def data(migrated_sqlite: str, tmp_path: Path) -> AsyncIterator[AccessData]:
    """On one kind of database: nothing here is read from it but the key."""
    database = Database.open(migrated_sqlite)
    yield AccessData(database, Changes(tmp_path / "changes"))
    await database.close()


@pytest.fixture
async def keys(data: AccessData) -> SigningKeys:
    return SigningKeys(data)


@pytest.fixture
async def tokens(keys: SigningKeys) -> RegistryTokens:
    return RegistryTokens(keys, SERVICE, 300)


@pytest.fixture
async def forger(keys: SigningKeys) -> Forger:
    return Forger(await keys.current())


async def test_what_is_issued_is_taken_and_says_the_same(tokens: RegistryTokens) -> None:
    issued = await tokens.issue(ALICE, "alice", SCOPES)
    found = await tokens.verify(issued.text)
    assert (found.account, found.epoch, found.access_token) == ("id-of-alice", 3, "id-of-token")
    assert found.scopes == SCOPES
    assert issued.seconds == 300
    assert issued.at + 300 <= found.expires <= issued.at + 310
    assert issued.text not in repr(issued)


async def test_anybody_reads_in_a_token_what_the_specification_names(tokens: RegistryTokens) -> None:
    issued = await tokens.issue(ALICE, "alice", SCOPES)
    found = jwt.decode(issued.text, options={"verify_signature": False})
    assert (found["iss"], found["aud"]) == (ISSUER, SERVICE)
    assert found["sub"] == "alice"
    assert found["access"] == [
        {"type": "repository", "name": "team/app", "actions": ["pull", "push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]


async def test_the_forger_s_own_token_is_taken(tokens: RegistryTokens, forger: Forger) -> None:
    """Else the tests below would prove nothing."""
    assert (await tokens.verify(forger.sign(forger.header(), forger.claims()))).account == "id-of-alice"


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_is_refused(tokens: RegistryTokens, forger: Forger, name: str) -> None:
    with pytest.raises(CredentialsInvalid) as caught:
        await tokens.verify(FORGERIES[name](forger))
    # a stranger is not told what was wrong
    assert str(caught.value) == str(CredentialsInvalid(""))


async def test_one_server_s_token_is_another_server_s_forgery(tokens: RegistryTokens, data: AccessData) -> None:
    """Two servers of one database that are different services."""
    other = RegistryTokens(SigningKeys(data), "other.example.org", 300)
    issued = await other.issue(ALICE, "alice", SCOPES)
    with pytest.raises(CredentialsInvalid):
        await tokens.verify(issued.text)
    assert (await other.verify(issued.text)).account == "id-of-alice"


async def test_a_clock_that_differs_a_little_is_no_matter(tokens: RegistryTokens, forger: Forger) -> None:
    now = int(time.time())
    for changes in ({"nbf": now + 3, "iat": now + 3}, {"exp": now - 3}):
        await tokens.verify(forger.sign(forger.header(), forger.claims(**changes)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(text=st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True)))
async def test_no_text_is_taken_or_crashes(tokens: RegistryTokens, text: str) -> None:
    with pytest.raises(CredentialsInvalid):
        await tokens.verify(text)


async def test_the_largest_token_fits_into_a_header(tokens: RegistryTokens) -> None:
    name = "a" * 135
    scopes = {f"repository:{name}{number:03}": frozenset({"pull", "push", "delete"}) for number in range(24)}
    assert sum(len(each) + len(":pull,push,delete") for each in scopes) <= 4096
    issued = await tokens.issue(ALICE, "a" * 64, scopes)
    assert len(f"Bearer {issued.text}") < 8190
    assert (await tokens.verify(issued.text)).scopes == scopes
