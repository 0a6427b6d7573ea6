"""What tests of this folder share: an issuer, and how it is reached."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from auth.sign_in.errors import FetchFailed
from auth.sign_in.issuer_keys import Discovery, Fetch, IssuerKeys
from tests.support.servers.issuer import Issuer


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


@pytest.fixture
async def fetch() -> AsyncIterator[Fetch]:
    async with aiohttp.ClientSession() as session:

        async def get(url: str) -> bytes:
            try:
                async with session.get(url) as response:
                    return await response.read()
            except aiohttp.ClientError as error:
                raise FetchFailed(url, type(error).__name__) from None

        yield get


@pytest.fixture
async def keys(issuer: Issuer, fetch: Fetch) -> AsyncIterator[IssuerKeys]:
    opened = IssuerKeys(Discovery(issuer.url, fetch), fetch)
    yield opened
    await opened.close()
