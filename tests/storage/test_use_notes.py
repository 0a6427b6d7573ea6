"""Notes of uses: one for a key, another after one that failed, and none that holds up the end."""

from __future__ import annotations

import asyncio

import pytest

from storage import use_notes
from storage.errors import StorageUnavailable
from storage.use_notes import UseNotes


async def test_a_key_is_noted_once() -> None:
    written: list[str] = []

    async def write(key: str) -> None:
        written.append(key)

    notes = UseNotes(write, 1000.0, "use not recorded")
    for key in ("a", "b", "a"):
        notes.note(key)
    assert written == []
    await notes.close()
    notes.note("a")
    await notes.close()
    assert written == ["a", "b"]


async def test_a_note_that_failed_is_tried_again_with_the_next_use() -> None:
    tried: list[str] = []

    async def write(key: str) -> None:
        tried.append(key)
        raise StorageUnavailable("the database", "it is locked")

    notes = UseNotes(write, 1000.0, "use not recorded")
    for _ in range(2):
        notes.note("a", key="a")
        await notes.close()
    assert tried == ["a", "a"]


async def test_a_note_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use_notes, "CLOSE_SECONDS", 0.0)
    ended: list[str] = []

    async def write(key: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(key)

    notes = UseNotes(write, 1000.0, "use not recorded")
    notes.note("a")
    await asyncio.sleep(0)
    await notes.close()
    assert ended == ["a"]
