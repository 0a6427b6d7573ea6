"""The list of what refers to a manifest."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from storage.digest import Digest
from storage.repositories import pushed
from storage.repositories.rows import LONGEST_ANNOTATIONS, Push, StoredManifest
from tests.support.storage.content import MANIFEST, Content

SUBJECT = Digest.of(b"subject")


async def test_long_annotations_are_read_once_and_beside_the_event_loop(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a list of a hundred of them would keep every other request waiting."""
    short, long = {"note": "x"}, {f"note{number}": "\u00e9\n" * 5000 for number in range(50)}
    for each in (short, long):
        manifest = StoredManifest.of(MANIFEST, json.dumps({"annotations": each}).encode())
        push = Push(manifest, subject=SUBJECT, annotations=each)
        await content.repositories.put_manifest("a", push)
    parsed: list[threading.Thread] = []

    class Noting:
        """The module, whose calls about what is long are noted."""

        dumps = staticmethod(json.dumps)

        @staticmethod
        def loads(text: Any) -> Any:
            if len(text) > LONGEST_ANNOTATIONS:
                parsed.append(threading.current_thread())
            return json.loads(text)

    monkeypatch.setattr(pushed, "json", Noting)
    page = await content.repositories.referrers("a", SUBJECT, None, None, 10)
    assert sorted((referrer.descriptor.annotations for referrer in page.items), key=len) == [short, long]
    assert len(parsed) == 1
    assert parsed[0] is not threading.current_thread()
    # a page ends once it has so many characters of them
    found = [
        referrer
        for last in (None, page.items[0].descriptor.digest)
        for referrer in (await content.repositories.referrers("a", SUBJECT, None, last, 10, most_bytes=0)).items
    ]
    assert [each.descriptor.digest for each in found] == [each.descriptor.digest for each in page.items]
