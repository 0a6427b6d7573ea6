"""What tests of environments share."""

from __future__ import annotations

import pytest

from tests.support.storage.content import Content
from tests.support.storage.environments import Named


@pytest.fixture
def named(content: Content) -> Named:
    return Named.of(content)
