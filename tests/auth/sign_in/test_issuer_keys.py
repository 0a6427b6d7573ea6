"""When an issuer is asked for its keys, and what happens when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from auth.sign_in import issuer_keys
from auth.sign_in.errors import IssuerUnusable
from auth.sign_in.issuer_keys import (
    AGAIN_SECONDS,
    FRESH_SECONDS,
    KEEP_SECONDS,
    RETRY_SECONDS,
    Discovery,
    Fetch,
    IssuerKeys,
)
from tests.support.servers.issuer import Issuer

ONCE = ["/.well-known/openid-configuration", "/keys"]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(issuer: Issuer, fetch: Fetch, clock: Clock) -> AsyncIterator[IssuerKeys]:
    opened = IssuerKeys(Discovery(issuer.url, fetch), fetch, clock=clock)
    yield opened
    await opened.close()


async def test_nothing_is_asked_before_a_key_is_needed_and_then_once(issuer: Issuer, keys: IssuerKeys) -> None:
    assert issuer.asked == []
    found = await asyncio.gather(*(keys.find("first") for _ in range(50)))
    assert all(found)
    assert issuer.asked == ONCE


async def test_unknown_keys_are_asked_for_once_a_minute(issuer: Issuer, keys: IssuerKeys, clock: Clock) -> None:
    assert await keys.find("first")
    for number in range(50):
        assert await keys.find(f"made-up-{number}") is None
    assert issuer.asked == ONCE
    clock.now += AGAIN_SECONDS
    assert await asyncio.gather(*(keys.find(f"made-up-{number}") for number in range(50))) == [None] * 50
    assert issuer.asked == ONCE * 2


async def test_a_new_key_is_found_and_the_old_one_gone(issuer: Issuer, keys: IssuerKeys, clock: Clock) -> None:
    assert await keys.find("first")
    issuer.rotate("second")
    clock.now += AGAIN_SECONDS
    assert await keys.find("second")
    assert await keys.find("first") is None


async def test_a_key_that_was_taken_back_is_noticed_without_anybody_asking(
    issuer: Issuer, keys: IssuerKeys, clock: Clock
) -> None:
    assert await keys.find("first")
    issuer.rotate("second")
    clock.now += FRESH_SECONDS
    # this one does not wait
    assert await keys.find("first")
    while len(issuer.asked) < 4 or keys._loading is not None:
        await asyncio.sleep(0.001)
    assert await keys.find("first") is None
    assert await keys.find("second")


async def test_an_issuer_that_is_down_stops_nobody_with_a_known_key(
    issuer: Issuer, keys: IssuerKeys, clock: Clock
) -> None:
    assert await keys.find("first")
    issuer.discovery = {"issuer": "https://other.example.org"}
    clock.now += AGAIN_SECONDS
    assert await keys.find("unknown") is None
    assert await keys.find("first")
    clock.now += KEEP_SECONDS
    with pytest.raises(IssuerUnusable):
        await keys.find("first")
    issuer.discovery = {}
    clock.now += AGAIN_SECONDS
    assert await keys.find("first")


async def test_an_issuer_that_was_never_reached_is_not_asked_for_each_token(
    issuer: Issuer, keys: IssuerKeys, clock: Clock
) -> None:
    issuer.discovery = {"jwks_uri": f"{issuer.url}/nowhere"}
    for _ in range(20):
        with pytest.raises(IssuerUnusable) as caught:
            await keys.find("first")
    assert len(issuer.asked) == 1
    assert "nowhere" in caught.value.reason
    assert "nowhere" not in str(caught.value)
    issuer.discovery = {}
    clock.now += RETRY_SECONDS
    assert await keys.find("first")


async def test_a_slow_issuer_keeps_nobody_waiting_for_ever(
    issuer: Issuer, keys: IssuerKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "FETCH_SECONDS", 0.05)
    issuer.pause = asyncio.Event()
    with pytest.raises(IssuerUnusable) as caught:
        await keys.find("first")
    assert "did not answer within 0.05 seconds" in caught.value.reason
    issuer.pause.set()


async def test_a_slow_issuer_does_not_hold_up_who_has_a_known_key(
    issuer: Issuer, keys: IssuerKeys, clock: Clock
) -> None:
    assert await keys.find("first")
    issuer.pause = asyncio.Event()
    clock.now += FRESH_SECONDS
    for _ in range(10):
        assert await keys.find("first")
    issuer.pause.set()


async def test_who_stops_waiting_does_not_stop_the_others(issuer: Issuer, keys: IssuerKeys) -> None:
    issuer.pause = asyncio.Event()
    waiting = [asyncio.create_task(keys.find("first")) for _ in range(2)]
    while not issuer.asked:
        await asyncio.sleep(0.001)
    waiting[0].cancel()
    issuer.pause.set()
    assert await waiting[1]


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://other.example.org"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": ["https://other.example.org/keys"]},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "ftp://other.example.org/keys"},
        {"jwks_uri": "/keys"},
    ],
)
async def test_discovery_documents_that_are_not_used(
    issuer: Issuer, keys: IssuerKeys, discovery: dict[str, object]
) -> None:
    issuer.discovery = discovery
    with pytest.raises(IssuerUnusable):
        await keys.find("first")
    assert issuer.asked == ONCE[:1]


async def test_an_issuer_with_https_has_its_keys_there_too() -> None:
    async def fetch(url: str) -> bytes:
        assert url == "https://issuer.example.org/.well-known/openid-configuration"
        return b'{"issuer": "https://issuer.example.org/", "jwks_uri": "http://issuer.example.org/keys"}'

    keys = IssuerKeys(Discovery("https://issuer.example.org/", fetch), fetch)
    with pytest.raises(IssuerUnusable) as caught:
        await keys.find("first")
    assert "no jwks_uri that is an address with https" in caught.value.reason
