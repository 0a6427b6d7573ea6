"""Explicit lists: what is read of them, and every rejection with its message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.environments.inputs.input import InputKind, InputSettings
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid
from builder.locks.formats import write_explicit
from builder.settings import BuilderSettings
from tests.support.builder.locks import LOCK

SETTINGS = InputSettings(channel_alias="https://conda.example.org")
BASE = "https://conda.example.org/conda-forge"
SHA256, MD5 = "a" * 64, "b" * 32


def test_what_condery_writes() -> None:
    found = read_input(write_explicit(LOCK, "linux-64"), SETTINGS, is_lock=True)
    assert found.kind is InputKind.EXPLICIT
    assert found.lock
    assert found.spec.channels == ("conda-forge",)
    assert [(p.url, p.sha256, str(p)) for p in found.lock.packages["linux-64"]] == [
        (p.url, p.sha256, str(p)) for p in LOCK.packages["linux-64"]
    ]
    lines = [f"{p.url}#sha256:{p.sha256}" for p in LOCK.packages["linux-64"]]
    assert found.document == {"lockfile": {"platform": "linux-64", "explicit": lines}}


def test_every_form_of_a_line() -> None:
    text = f"""
# Made by hand
# platform: linux-aarch64
  @EXPLICIT
{BASE}/linux-aarch64/b-1.0-h0_2.conda#{MD5}
{BASE}/noarch/a-1!2.0-py_0.tar.bz2#sha256:{SHA256.upper()}

https://u:pw@other.example.org/x/noarch/c-1.0-0.conda#{SHA256}
"""
    found = read_input(text.replace("\n", "\r\n").encode(), SETTINGS)
    assert found.lock
    assert found.spec.platforms == ("linux-aarch64",)
    b, a, c = found.lock.packages["linux-aarch64"]
    assert (b.md5, b.sha256, b.build_number) == (MD5, None, 2)
    assert (a.sha256, a.version, a.file_name) == (SHA256, "1!2.0", "a-1!2.0-py_0.tar.bz2")
    assert (c.url, c.channel) == ("https://other.example.org/x/noarch/c-1.0-0.conda", "https://other.example.org/x")
    assert "pw" not in str(found)
    assert "have credentials, which are left out" in found.warnings[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "it lists no packages"),
        ([f"{BASE}/noarch/a-1.0-0.conda"], "line 2: it has neither sha256 nor md5"),
        ([f"{BASE}/noarch/a-1.0-0.conda#"], "line 2: '' is neither an md5 nor a sha256"),
        ([f"{BASE}/noarch/a-1.0-0.conda#{'a' * 40}"], "line 2: '" + "a" * 40 + "' is neither an md5 nor a sha256"),
        (["numpy"], "line 2: 'numpy' is not an address that starts with https://"),
        (["/home/me/noarch/a-1.0-0.conda"], "line 2: '/home/me/noarch/a-1.0-0.conda' is not an address"),
        (["file:///home/me/noarch/a-1.0-0.conda"], "is a file of the machine where the lock was made"),
        ([f"https://x.org/c/noarch/a-{'9' * 44}-0.conda"], "has more than 64 bits"),
        ([f"{BASE}/osx-64/a-1.0-0.conda#{MD5}"], "it has only osx-64, but environments are made for Linux only"),
        ([f"{BASE}/{each}/{each[-2:]}-1.0-0.conda#{MD5}" for each in ("linux-64", "linux-32")], "is for one platform"),
        (["# platform: win-64", f"{BASE}/noarch/a-1.0-0.conda#{MD5}"], "line 2: it has only win-64"),
        (
            ["# platform: linux-64", f"{BASE}/linux-aarch64/a-1.0-0.conda#{MD5}"],
            "line 3: its address is one of linux-aarch64, but it is locked for linux-64",
        ),
        (
            [f"{BASE}/noarch/a-1.0-0.conda#{MD5}", f"{BASE}/noarch/a-2.0-0.conda#{MD5}"],
            "line 3: a-2.0-0 and a-1.0-0 (line 2) are both locked for linux-64",
        ),
    ],
)
def test_rejections(lines: list[str], message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read_input("\n".join(["@EXPLICIT", *lines]).encode(), SETTINGS)
    assert message in str(caught.value)


def test_a_list_of_noarch_packages_for_several_platforms() -> None:
    content = f"@EXPLICIT\n{BASE}/noarch/a-1.0-0.conda#{MD5}".encode()
    assert read_input(content, SETTINGS).spec.platforms == ("linux-64",)
    with pytest.raises(InputInvalid, match="nothing says which platform it is for; add a line such as"):
        read_input(content, replace(SETTINGS, platforms=("linux-64", "linux-aarch64")))


LOCAL = replace(SETTINGS, local_channels=(("file:///srv/a%20channel/", "/srv/a channel"),))


@pytest.mark.parametrize("url", ["file:///srv/a%20channel/noarch/a-1.0-0.conda", "file://localhost/srv/a%20channel"])
def test_files_of_a_channel_that_the_settings_name(url: str) -> None:
    url = url if url.endswith(".conda") else f"{url}/noarch/a-1.0-0.conda"
    found = read_input(f"@EXPLICIT\n{url}#{MD5}".encode(), LOCAL)
    assert found.spec.channels == ("/srv/a channel",)
    assert found.lock
    assert found.lock.packages["linux-64"][0].url == "file:///srv/a%20channel/noarch/a-1.0-0.conda"


@pytest.mark.parametrize(
    "url",
    [
        "file:///srv/noarch/a-1.0-0.conda",
        "file:///srv/a%20channel/label/noarch/a-1.0-0.conda",
        "file:///srv/a%20channel2/noarch/a-1.0-0.conda",
        "file:///srv/x/../a%20channel/noarch/a-1.0-0.conda",
        "file:///srv/a%20channel/%2e%2e/b/noarch/a-1.0-0.conda",
        "file://elsewhere/srv/a%20channel/noarch/a-1.0-0.conda",
        "file:///srv/a%20channel/noarch/a-1.0-0.conda?x",
        "file:///srv/a%20channel/noarch/passwd",
        "file:///etc/passwd",
        "FILE:///etc/noarch/a-1.0-0.conda",
    ],
)
def test_other_files_are_never_read(url: str) -> None:
    with pytest.raises(InputInvalid, match="line 2: "):
        read_input(f"@EXPLICIT\n{url}#{MD5}".encode(), LOCAL)


def test_which_channels_are_directories() -> None:
    server = BuilderSettings(
        channels=("conda-forge", "/srv/one"),
        allowed_channels=("file:///srv/two", "file:///srv/*", "conda-forge", "https://x.org/y"),
    )
    assert InputSettings.of(server).local_channels == (
        ("file:///srv/one/", "/srv/one"),
        ("file:///srv/two/", "file:///srv/two"),
    )
