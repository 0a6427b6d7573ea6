"""The keys that sign: one at a time, the same for all processes, rotated without a token that nobody takes."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import select, update

from auth.changing import AccessData
from auth.tokens import signing_keys
from auth.tokens.key_text import thumbprint
from auth.tokens.signing_keys import KEEP_SECONDS, ROTATE_SECONDS, SigningKeys
from storage.database.account_tables import signing_key
from storage.database.engine import Database
from storage.errors import VaultLocked
from storage.events.changes import Changes
from storage.vault.key_text import new_key
from storage.vault.vault import Vault


class Clock:
    """Stands for `time`; both clocks go together."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(signing_keys, "time", clock)
    return clock


def test_the_name_of_a_key_is_its_thumbprint() -> None:
    """RFC 8037, appendix A.3."""
    raw = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert thumbprint(Ed25519PublicKey.from_public_bytes(raw)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_all_processes_sign_with_one_key(data: AccessData) -> None:
    processes = [SigningKeys(data) for _ in range(5)]
    kids = {key.kid for key in await asyncio.gather(*(each.current() for each in processes))}
    assert len(kids) == 1
    async with data.database.reading() as connection:
        assert len((await connection.execute(select(signing_key))).all()) == 1


async def test_an_old_key_signs_nothing_more_and_is_taken_for_a_while(data: AccessData, clock: Clock) -> None:
    keys, others = SigningKeys(data), SigningKeys(data)
    first = await keys.current()
    clock.now += ROTATE_SECONDS - 1
    assert (await keys.current()).kid == first.kid
    clock.now += 2
    second = await keys.current()
    assert second.kid != first.kid
    assert (await others.current()).kid == second.kid
    clock.now += KEEP_SECONDS - 60
    for each in (keys, others, SigningKeys(data)):
        found = await each.find(first.kid)
        assert found is not None
        assert found.public_bytes_raw() == first.public.public_bytes_raw()
    clock.now += 120
    assert await SigningKeys(data).find(first.kid) is None


async def test_nothing_is_left_that_a_retired_key_could_sign_with(data: AccessData, clock: Clock) -> None:
    keys = SigningKeys(data)
    await keys.current()
    clock.now += ROTATE_SECONDS + 1
    await keys.current()
    async with data.database.reading() as connection:
        rows = (await connection.execute(select(signing_key).order_by(signing_key.c.created))).all()
    assert [bool(row.private) for row in rows] == [False, True]


async def test_a_key_of_a_clock_that_was_ahead_signs_nothing(data: AccessData, clock: Clock) -> None:
    clock.now += 10 * ROTATE_SECONDS
    ahead = await SigningKeys(data).current()
    clock.now -= 10 * ROTATE_SECONDS
    assert (await SigningKeys(data).current()).kid != ahead.kid


async def test_a_key_made_by_another_machine_is_found_before_its_announcement(
    data: AccessData, database_url: str, tmp_path: Path, clock: Clock
) -> None:
    here = SigningKeys(data)
    first = await here.current()
    database = Database.open(database_url)
    # a file of its own, as on another machine, and no announcement comes through
    elsewhere = SigningKeys(AccessData(database, Changes(tmp_path / "other-machine")))
    clock.now += ROTATE_SECONDS + 1
    second = await elsewhere.current()
    assert await here.find(second.kid) is not None
    assert await here.find(first.kid) is not None
    await database.close()


async def test_made_up_names_of_keys_ask_the_database_once_a_second(
    data: AccessData, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = SigningKeys(data)
    await keys.current()
    clock.now += 10
    asked = 0
    load = keys._load

    async def counting(stamp: int) -> None:
        nonlocal asked
        asked += 1
        await load(stamp)

    monkeypatch.setattr(keys, "_load", counting)
    for number in range(100):
        assert await keys.find(f"made up {number}") is None
    assert asked == 1


def vault(*keys: str) -> Vault:
    return Vault.open(keys, None)


OLD, NEW = new_key(), new_key()


async def stored(data: AccessData) -> list[str]:
    async with data.database.reading() as connection:
        return list((await connection.execute(select(signing_key.c.private))).scalars())


async def test_private_keys_are_encrypted_if_there_is_a_key_for_it(data: AccessData) -> None:
    made = await SigningKeys(data, vault(OLD)).current()
    (text,) = await stored(data)
    assert "PRIVATE KEY" not in text
    again = await SigningKeys(data, vault(NEW, OLD)).current()
    assert again.kid == made.kid
    assert again.private is not None
    assert made.private is not None
    assert again.private.private_bytes_raw() == made.private.private_bytes_raw()


async def test_a_server_without_the_key_makes_no_other_one(data: AccessData) -> None:
    await SigningKeys(data, vault(OLD)).current()
    for keys in (SigningKeys(data), SigningKeys(data, vault(NEW))):
        with pytest.raises(VaultLocked, match=r"the signing key .* cannot be decrypted"):
            await keys.check()
        with pytest.raises(VaultLocked):
            await keys.current()
    assert len(await stored(data)) == 1


async def test_keys_of_before_there_was_a_vault_work_and_are_sealed(data: AccessData) -> None:
    made = await SigningKeys(data).current()
    sealing = SigningKeys(data, vault(NEW, OLD))
    assert (await sealing.current()).kid == made.kid
    assert "PRIVATE KEY" in (await stored(data))[0]
    assert await sealing.reseal() == (1, 0)
    assert "PRIVATE KEY" not in (await stored(data))[0]
    assert (await SigningKeys(data, vault(NEW)).current()).kid == made.kid


async def test_what_cannot_be_decrypted_is_deleted_only_if_told_so(data: AccessData) -> None:
    made = await SigningKeys(data, vault(OLD)).current()
    keys = SigningKeys(data, vault(NEW))
    with pytest.raises(VaultLocked):
        await keys.reseal()
    assert await keys.reseal(forget=True) == (0, 1)
    assert (await keys.current()).kid != made.kid


async def test_no_private_key_shows(data: AccessData) -> None:
    key = await SigningKeys(data).current()
    assert "private" not in repr(key).lower()


async def test_a_key_that_somebody_withdrew_is_taken_no_more(data: AccessData) -> None:
    keys = SigningKeys(data)
    key = await keys.current()
    async with data.changing() as connection:
        await connection.execute(update(signing_key).values(expires=1.0, retired=1.0))
    assert await keys.find(key.kid) is None
    assert (await keys.current()).kid != key.kid


def test_keys_are_not_all_alike() -> None:
    one, two = (Ed25519PrivateKey.generate().public_key() for _ in range(2))
    assert thumbprint(one) != thumbprint(two)
