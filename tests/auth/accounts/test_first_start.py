"""The first administrator: made once, and never with a password that anybody could know."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from sqlalchemy import update

from auth.accounts.bindings import Holder
from auth.accounts.first_start import PRINTED_DAYS, make_first_administrator
from auth.errors import PasswordFileUnusable, PasswordUnfit
from storage.database.account_tables import account
from tests.support.auth.opened import TESTER, Opened


async def test_one_of_many_processes_makes_it_and_prints_its_password(opened: Opened) -> None:
    printed = await asyncio.gather(*(make_first_administrator(opened.accounts, None) for _ in range(6)))
    [password] = [each for each in printed if each is not None]
    assert re.fullmatch(r"([a-z2-9]{5}-){3}[a-z2-9]{5}", password)
    found = await opened.passwords.verify("admin", password)
    assert found is not None
    [bound] = await opened.bindings.list_all(Holder("account", "admin"))
    assert str(bound) == "*=admin"
    assert await make_first_administrator(opened.accounts, None) is None


async def test_a_printed_password_ends_unless_another_is_set(opened: Opened) -> None:
    password = await make_first_administrator(opened.accounts, None)
    assert password is not None
    admin = await opened.accounts.find("admin")
    assert admin.expires is not None
    assert admin.expires - admin.created == pytest.approx(PRINTED_DAYS * 86400, abs=60)
    async with opened.data.changing() as connection:
        await connection.execute(update(account).values(expires=admin.created - 1))
    assert await opened.passwords.verify("admin", password) is None
    await opened.accounts.set_password("admin", "correct horse", by=TESTER)
    assert await opened.passwords.verify("admin", "correct horse") is not None
    assert (await opened.accounts.find("admin")).expires is None


async def test_passwords_differ(opened: Opened) -> None:
    made = set()
    for _ in range(3):
        made.add(await make_first_administrator(opened.accounts, None))
        await opened.accounts.delete("admin", force=True, by=TESTER)
    assert len(made) == 3


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nanother line\n"])
async def test_a_password_of_a_file_is_not_printed(opened: Opened, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(f"correct horse{ending}".encode())
    assert await make_first_administrator(opened.accounts, path) is None
    assert await opened.passwords.verify("admin", "correct horse") is not None
    assert (await opened.accounts.find("admin")).expires is None


async def test_a_file_that_cannot_be_used_starts_nothing(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(PasswordFileUnusable, match="No such file"):
        await make_first_administrator(opened.accounts, tmp_path / "none")
    path = tmp_path / "password"
    for content, error in ((b"", PasswordUnfit), (b"admin\n", PasswordUnfit), (b"\xff\xfe", PasswordFileUnusable)):
        path.write_bytes(content)
        with pytest.raises(error):
            await make_first_administrator(opened.accounts, path)
    assert await opened.accounts.list_all() == []


async def test_where_there_is_any_account_none_is_made(opened: Opened, tmp_path: Path) -> None:
    await opened.accounts.add_robot("ci", by=TESTER)
    assert await make_first_administrator(opened.accounts, None) is None
    # and the file is not even looked at
    assert await make_first_administrator(opened.accounts, tmp_path / "none") is None
    assert [each.name for each in await opened.accounts.list_all()] == ["ci"]
