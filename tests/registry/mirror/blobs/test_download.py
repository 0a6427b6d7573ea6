"""A blob in transit, as its readers see it."""

from __future__ import annotations

import traceback

import pytest

from registry.mirror.download import Download
from registry.mirror.errors import UpstreamBroke
from registry.mirror.names import Source
from storage.digest import Digest


async def test_every_reader_has_an_error_of_its_own() -> None:
    download = Download(Source("r.test", "team/app"), Digest.of(b"layer"))
    download.fail(UpstreamBroke("r.test", "went away"))
    caught = list[UpstreamBroke]()
    for _ in range(3):
        with pytest.raises(UpstreamBroke, match="went away") as each:
            await download.wait_until_stored(60)
        caught.append(each.value)
    assert len({id(each) for each in caught}) == 3
    assert {each.registry for each in caught} == {"r.test"}
    assert len({len(traceback.extract_tb(each.__traceback__)) for each in caught}) == 1
