"""Which hosts are this machine."""

from __future__ import annotations

import pytest

from storage.network.this_machine import is_this_machine


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost.",
        "127.0.0.1",
        "127.9.8.7",
        "127.0.0.1.",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0.0.0.0",
        "::1",
        "[::1]",
        "::1%lo",
        "::",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
    ],
)
def test_it_is(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.example.org",
        "mylocalhost",
        "127.example.org",
        "127.0.0.1.nip.io",
        "10.0.0.1",
        "128.0.0.1",
        "::2",
        "fe80::1%lo",
        "::ffff:10.0.0.1",
        "\u0661\u0662\u0667.0.0.1",
    ],
)
def test_it_is_not(host: str) -> None:
    assert not is_this_machine(host)
