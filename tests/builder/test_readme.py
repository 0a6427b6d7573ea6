"""What the README says to pull can be pulled, from the channel of its demonstration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.builder.services import open_service

README = (Path(__file__).parents[2] / "README.md").read_text()
PLACES = re.findall(r"(files/)?(conda-store-dynamic/[a-z0-9][a-z0-9._/-]*)", README)
NAMES = sorted({name.rpartition("/latest/")[0] if files else name for files, name in PLACES})


def test_the_readme_has_names() -> None:
    assert len(NAMES) >= 3


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_of_the_readme_is_solved(name: str, sample_channel: Path, tmp_path: Path) -> None:
    async with open_service(tmp_path / "data", sample_channel.as_uri(), base="host") as service:
        ticket = await service.demand.artifact(name, "latest", "explicit.txt")
        assert await ticket.wait(60)
