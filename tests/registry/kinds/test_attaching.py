"""Which questions of what refers to a manifest have files attached to it: those of readers, about images on demand."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.digest import Digest
from tests.support.registry.access import GrantedAccess
from tests.support.registry.serving import NUMPY, ROOT, serving

SUBJECT = Digest.of(b"an index")


@pytest.mark.parametrize(
    ("path", "status", "attached"),
    [
        (f"{NUMPY}/referrers/{SUBJECT}", 200, [(ROOT, SUBJECT)]),
        (f"{NUMPY}/referrers/{SUBJECT}?artifactType=application/spdx%2Bjson", 200, [(ROOT, SUBJECT)]),
        # the first page has had them made
        (f"{NUMPY}/referrers/{SUBJECT}?last={SUBJECT}", 200, []),
        (f"{NUMPY}/referrers/{SUBJECT}?n=all", 400, []),
        (f"{NUMPY}/referrers/sha256:12", 400, []),
        (f"team/app/referrers/{SUBJECT}", 200, []),
    ],
)
async def test_questions(path: str, status: int, attached: list[tuple[str, Digest]], tmp_path: Path) -> None:
    async with serving(tmp_path) as site, site.request("GET", f"/v2/{path}") as answer:
        assert answer.status == status
        assert site.workshop.attached == attached


async def test_whoever_may_not_read_has_nothing_attached(tmp_path: Path) -> None:
    async with serving(tmp_path, access=GrantedAccess(frozenset())) as site:
        async with site.request("GET", f"/v2/{NUMPY}/referrers/{SUBJECT}") as answer:
            assert answer.status in (401, 403)
        assert site.workshop.attached == []
