"""What tests of this folder share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

GlobalLogger = type(structlog.get_logger())


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """Undoes `registry.logs.lines.configure` after a test that calls it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    for module in list(sys.modules.values()):
        # a logger that was used since keeps where its lines went; without this it is made anew at its next line
        if isinstance(logger := vars(module).get("log"), GlobalLogger):
            vars(logger).pop("bind", None)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
