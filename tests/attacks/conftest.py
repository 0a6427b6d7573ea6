"""A folder outside all that is attacked, which packages try to reach."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.leaving import SECRET, VICTIM


@pytest.fixture(scope="module")
def outside() -> Iterator[Path]:
    """The folder that nothing should touch."""
    VICTIM.mkdir()
    yield VICTIM
    shutil.rmtree(VICTIM)


@pytest.fixture
def victim(outside: Path) -> Iterator[Path]:
    """The same folder with nothing but a secret in it."""
    (outside / "secret").write_bytes(SECRET)
    yield outside
    for path in outside.iterdir():
        path.unlink()
