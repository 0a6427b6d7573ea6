"""Data directories, and where bases come from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builder.base.support import Data, OpenData
from tests.support.builder.images import Images
from tests.support.storage.stores import Blocking


@pytest.fixture
def open_data(tmp_path: Path) -> Iterator[OpenData]:
    """Opens data directories by name."""
    with contextlib.ExitStack() as stack:

        def open_one(name: str) -> Data:
            return Data(tmp_path / name, stack.enter_context(contextlib.closing(Blocking(tmp_path / name))))

        yield open_one


@pytest.fixture
def images(open_data: OpenData) -> Images:
    """Where bases come from: a store of its own, apart from the one they are put into."""
    return Images(open_data("source").blobs)


@pytest.fixture
def data(open_data: OpenData) -> Data:
    return open_data("data")
