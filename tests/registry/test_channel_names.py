"""Who listens where decides which channels a stranger may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildFailed, ChannelNotAllowed
from builder.settings import BuilderSettings
from builder.work.claims import Caller, permit_all
from registry.answers import answer_of
from registry.app import open_parts
from registry.http.settings import HttpSettings
from registry.settings.model import Settings
from storage.settings import StorageSettings

STRANGER = Caller("203.0.113.7")


@pytest.mark.parametrize(
    ("http", "alone"),
    [
        ({}, True),
        ({"host": "127.0.0.1"}, True),
        ({"host": "127.8.8.8"}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": ""}, False),
        ({"host": "10.0.0.1"}, False),
        ({"host": "registry.example.org"}, False),
        # a proxy on this machine passes on what others send
        ({"trusted_proxies": ("127.0.0.1",)}, False),
        ({"public_url": "https://registry.example.org"}, False),
    ],
)
async def test_strangers_have_the_channels_of_the_settings(tmp_path: Path, http: dict[str, Any], alone: bool) -> None:
    settings = Settings(
        http=HttpSettings(**http),
        builder=BuilderSettings(channel_alias="http://127.0.0.1:1", base="scratch", repodata_refresh=0, workers=1),
        storage=StorageSettings(data_directory=tmp_path),
    )
    name = f"{settings.builder.root}/channel.stranger/x"
    async with open_parts(settings) as parts:
        if alone:
            with pytest.raises(BuildFailed, match="no connection"):
                await (await parts.demand.image(name, "latest", STRANGER, permit_all)).wait(60)
        else:
            with pytest.raises(ChannelNotAllowed, match=r"stranger is not allowed.*allowed_channels") as caught:
                await parts.demand.image(name, "latest", STRANGER, permit_all)
            assert answer_of(type(caught.value)) == (404, "MANIFEST_UNKNOWN")
