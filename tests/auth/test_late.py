"""Modules that are imported late: in a thread, and once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.late import import_late

NOTING = """
import threading
threads = [*globals().get("threads", ()), threading.current_thread()]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of one that notes the threads that run it."""
    name = "condery_late_module"
    (tmp_path / f"{name}.py").write_text(NOTING)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    del sys.modules[name]


async def test_a_module_is_imported_in_a_thread_and_once(module: str) -> None:
    await asyncio.gather(*(import_late(module) for _ in range(5)))
    await import_late(module)
    [thread] = sys.modules[module].threads
    assert thread is not threading.current_thread()


async def test_whoever_waits_hears_that_there_is_none() -> None:
    with pytest.raises(ModuleNotFoundError):
        await import_late("condery_no_module")
