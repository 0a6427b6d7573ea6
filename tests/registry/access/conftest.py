"""A server that others could reach: nobody may do anything without signing in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.http.settings import HttpSettings
from tests.support.registry.access import CLOSED
from tests.support.registry.people import People
from tests.support.registry.pushes import Pusher
from tests.support.registry.serving import Site, serving


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, HttpSettings(answer_within=0.1), sign_in=CLOSED) as running:
        yield running


@pytest.fixture
def people(site: Site) -> People:
    return People(site)


@pytest.fixture
def ask(site: Site) -> Pusher:
    return Pusher(site)
