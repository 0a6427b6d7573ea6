"""One login, one token: however a client writes it, it is checked once and remembered once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import threading
import unicodedata
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from argon2 import PasswordHasher

from auth.accounts.attempts import Attempts
from auth.accounts.defaults import Defaults
from auth.accounts.hashing import HashPool
from auth.accounts.loading import PrincipalLoader
from auth.accounts.passwords import Passwords
from auth.changing import AccessData
from auth.errors import SignInBusy, TooManyAttempts
from auth.principal import Principal
from auth.role import Roles
from auth.settings import AccessSettings
from auth.tokens.credential import Credential, Recognised
from auth.tokens.errors import CredentialsInvalid
from registry.access.authorization import Shown, read_authorization
from registry.access.checked import CheckedCredentials
from registry.access.passwords import PasswordSignIns
from storage.database.engine import Database
from storage.events.changes import Changes
from tests.support.auth.opened import ROOT, Opened
from tests.support.registry.people import BY, People, basic, bearer
from tests.support.registry.pushes import Pusher
from tests.support.registry.serving import Site

ACCENTED = "crème brûlée à la carte"
HERE, THERE = "192.0.2.1", "198.51.100.1"


def sizes(checked: CheckedCredentials) -> tuple[int, ...]:
    """Of passwords, tokens, and tokens of nobody."""
    kinds = checked._passwords, checked._tokens, checked._tokens_of_nobody
    return tuple(len(each._entries) for each in kinds)


def spellings(name: str, password: str) -> Iterator[str]:
    """Values of the header that are all the same login."""
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        text = base64.b64encode(f"{name}:{unicodedata.normalize(form, password)}".encode()).decode()
        for scheme in ("Basic", "basic", "bAsIc"):
            for spaces in range(1, 4):
                yield f"{scheme}{' ' * spaces}{text}"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that a server compares."""
    found: list[bytes] = []
    matches = HashPool.matches

    async def noting(self: HashPool, stored: str, secret: bytes, **how: Any) -> bool:
        found.append(secret)
        return await matches(self, stored, secret, **how)

    monkeypatch.setattr(HashPool, "matches", noting)
    return found


async def test_password_hash_on_every_request_one_is_enough_for_all_spellings(
    site: Site, people: People, ask: Pusher, compared: list[bytes]
) -> None:
    await people.add("alice", "team/*=viewer", password=ACCENTED)
    headers = [{"Authorization": each} for each in spellings("alice", ACCENTED)]
    at_once = await asyncio.gather(*(ask.request("GET", "/v2/", headers=each) for each in headers))
    after = [await ask.request("GET", "/v2/", headers=each) for each in headers]
    assert {each.status for each in (*at_once, *after)} == {200}
    assert len(compared) == 1
    assert len(site.access.authentication._checked._passwords._entries) == 1


async def test_every_door_takes_what_was_compared_at_another(
    people: People, ask: Pusher, site: Site, compared: list[bytes]
) -> None:
    await people.add("alice", password=ACCENTED)
    # it makes a key, which is a change
    assert (await ask.request("GET", "/token")).status == 200
    for form in ("NFC", "NFD"):
        login = {"username": "alice", "password": unicodedata.normalize(form, ACCENTED)}
        for _ in range(3):
            assert (await ask.request("GET", "/token", headers=basic(*login.values()))).status == 200
            async with site.request("POST", "/token", data={"grant_type": "password", **login}) as answer:
                assert answer.status == 200
            async with site.request("POST", "/login", json=login, allow_redirects=False) as answer:
                assert answer.status == 303
            # the next one is another browser: to end a session is a change
            site.client.cookie_jar.clear()
    assert len(compared) == 1


async def test_a_new_password_is_compared_anew_at_every_door(
    people: People, ask: Pusher, site: Site, compared: list[bytes]
) -> None:
    await people.add("alice", password=ACCENTED)
    login = {"username": "alice", "password": ACCENTED}
    async with site.request("POST", "/login", json=login, allow_redirects=False) as answer:
        assert answer.status == 303
    await people.accounts.set_password("alice", "another password", by=BY)
    async with site.request("POST", "/login", json=login, allow_redirects=False) as answer:
        assert answer.status == 403
    assert (await ask.request("GET", "/v2/", headers=basic("alice", ACCENTED))).status == 401
    assert len(compared) == 3


async def test_all_spellings_of_a_token_are_remembered_once(site: Site, people: People, ask: Pusher) -> None:
    alice = await people.add("alice", "team/*=viewer")
    checked = site.access.authentication._checked
    for value in (f"Bearer {alice.token}", f"bearer   {alice.token}", f"BEARER {alice.token}"):
        assert (await ask.request("GET", "/v2/", headers={"Authorization": value})).status == 200
    for number in range(10):
        assert (await ask.request("GET", "/v2/", headers=basic(f"anything{number}", alice.token))).status == 200
    assert sizes(checked) == (0, 1, 0)


async def test_tokens_of_nobody_push_out_none_of_an_account(site: Site, people: People, ask: Pusher) -> None:
    alice = await people.add("alice", "team/*=viewer")
    checked = site.access.authentication._checked
    assert (await ask.request("GET", "/v2/", headers=alice.headers)).status == 200
    for _ in range(5):
        token = json.loads((await ask.request("GET", "/token")).body)["token"]
        assert (await ask.request("GET", "/v2/", headers=bearer(token))).status == 200
    assert sizes(checked) == (0, 1, 5)


async def test_a_registry_token_is_no_password_even_if_it_is_remembered(people: People, ask: Pusher) -> None:
    alice = await people.add("alice", "team/*=viewer")
    token = (await people.registry_token(alice, {"repository:team/app": ["pull"]})).text
    for _ in range(2):
        assert (await ask.request("GET", "/v2/team/app/tags/list", headers=bearer(token))).status == 404
        assert (await ask.request("GET", "/v2/team/app/tags/list", headers=basic("alice", token))).status == 401


def test_kinds_of_credentials_have_room_of_their_own(data: AccessData) -> None:
    checked = CheckedCredentials(data, 2)

    def keep(shown: Shown, account: str) -> None:
        principal = Principal("alice", "person", account)
        checked.keep(shown, Credential(account), Recognised(principal, math.inf), data.stamp, 60)

    login, token = Shown("alice", "password"), Shown(None, "token")
    for each in (login, token):
        keep(each, "id-of-alice")
    for number in range(10):
        keep(Shown(None, f"nobody's {number}"), "")
    assert sizes(checked) == (1, 1, 2)
    for each in (login, token):
        assert checked.find(each) is not None
    for number in range(10):
        keep(Shown(None, f"{number}"), "id-of-alice")
    assert checked.find(login) is not None
    assert checked.find(token) is None


def test_logins_and_tokens_are_never_taken_for_each_other(data: AccessData) -> None:
    checked = CheckedCredentials(data)
    names, secrets = (None, "", "a", "1", "\0", "Bearer b"), ("b", "a:b", ":b", "0:b", "1:ab", "\0b", "")
    shown = [Shown(name, secret) for name in names for secret in secrets]
    assert len({checked.key_of(each) for each in shown}) == len(shown)


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic ", "Basic !", "Basic YQ==", "Digest x", "Basic\tYTpi", "Basic /w=="]
)
def test_what_is_neither_is_refused(header: str) -> None:
    with pytest.raises(CredentialsInvalid):
        read_authorization(header)


def test_nothing_shown_is_printed() -> None:
    assert "secret" not in f"{Shown('secret', 'secret')} {Shown(None, 'secret')!r}"


# while a password is compared


class Slow(PasswordHasher):
    """Compares nothing until it may go on."""

    def __init__(self) -> None:
        super().__init__(1, 8, 1)
        self.go_on = threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - argon2's name
        assert self.go_on.wait(60)
        return super().verify(hash, password)


class Doors:
    """Sign-ins with passwords over a store, with a hasher that waits."""

    def __init__(self, data: AccessData, passwords: Passwords, failures: int) -> None:
        settings = AccessSettings()
        loader = PrincipalLoader(data, Roles(), Defaults(settings, ROOT, for_this_machine=False))
        self.sign_ins = PasswordSignIns(passwords, Attempts(failures), loader, data)
        self.opened = Opened.over(data, passwords)

    async def sign_in(self, who: Sequence[str], network: str, times: int = 1) -> list[object]:
        asked = (self.sign_ins.verify(who[0], who[1], network) for _ in range(times))
        return await asyncio.gather(*asked, return_exceptions=True)


@pytest.fixture
async def data(migrated_sqlite: str, tmp_path: Path) -> AsyncIterator[AccessData]:
    database = Database.open(migrated_sqlite)
    yield AccessData(database, Changes(tmp_path / "changes"))
    await database.close()


@contextlib.asynccontextmanager
async def doors(data: AccessData, failures: int = 20) -> AsyncIterator[tuple[Doors, Slow]]:
    slow = Slow()
    with Passwords(data, 1, slow) as passwords:
        try:
            yield Doors(data, passwords, failures), slow
        finally:
            slow.go_on.set()


ALICE, BOB = ("alice", "password of alice"), ("bob", "password of bob")


async def test_one_account_keeps_no_other_out(data: AccessData, compared: list[bytes]) -> None:
    async with doors(data) as (door, slow):
        for name, password in (ALICE, BOB):
            await door.opened.add_person(name, password)
        slow.go_on.set()
        for who in (ALICE, BOB):
            [found] = await door.sign_in(who, HERE)
            assert not isinstance(found, Exception)
        # as after a minute, or after any change
        await door.opened.add_person("carol")
        slow.go_on.clear()
        compared.clear()
        networks = [f"203.0.113.{number}" for number in range(40)]
        flood = [asyncio.create_task(door.sign_in(ALICE, each, 25)) for each in networks]
        other = asyncio.create_task(door.sign_in(BOB, THERE))
        await asyncio.sleep(0.2)
        slow.go_on.set()
        [found] = await other
        assert not isinstance(found, Exception)
        answers = [each for answers in await asyncio.gather(*flood) for each in answers]
        assert len(answers) == 1000
        assert not any(isinstance(each, Exception) for each in answers)
        assert sorted(compared) == [ALICE[1].encode(), BOB[1].encode()]


@pytest.mark.parametrize("refusal", [TooManyAttempts, SignInBusy])
async def test_a_refusal_for_a_network_is_that_networks_alone(
    data: AccessData, refusal: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with doors(data, failures=2) as (door, slow):
        await door.opened.add_person(*ALICE)
        slow.go_on.set()
        refused: Mapping[type[Exception], Exception] = {
            TooManyAttempts: TooManyAttempts(1, "alice"),
            SignInBusy: SignInBusy(),
        }
        verify = door.opened.passwords.verify

        async def refuse(name: str, password: str, **how: Any) -> object:
            await asyncio.sleep(0.05)
            if how["network"] == HERE:
                raise refused[refusal]
            return await verify(name, password, **how)

        monkeypatch.setattr(door.opened.passwords, "verify", refuse)
        here, there = await asyncio.gather(door.sign_in(ALICE, HERE, 3), door.sign_in(ALICE, THERE, 3))
        assert [type(each) for each in here] == [refusal] * 3
        assert len({id(each) for each in here}) == 3
        assert not any(isinstance(each, Exception) for each in there)
