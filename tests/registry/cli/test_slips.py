"""Slips of whoever types a command: each is told at once, before anything is done, and with what to do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.platforms import OCI_PLATFORMS
from registry.cli.commands import sample_channel
from registry.cli.commands.build import _Place, _read_place
from registry.serving.listening import CannotListen, check_free
from tests.support.builder.packages import Package, write_channel

Run = Callable[..., Any]


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    write_channel(tmp_path / "demo" / "channel", [Package("numpy", "1.0"), Package("python", "3.12.0")])
    return tmp_path / "demo" / "channel"


def fails(result: Any, code: int) -> str:
    """What it says, on one line."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_a_name_that_is_nearly_one_of_the_channel(condery: Run, channel: Path) -> None:
    said = fails(condery("explain", "python/nunpy", "--channel", channel.as_uri(), "--data-dir", "data"), 1)
    assert "has not been built here yet" in said
    assert "did you mean numpy?" in said


def test_a_channel_that_cannot_be_asked(condery: Run) -> None:
    said = fails(condery("explain", "nunpy", "--channel", "http://127.0.0.1:1/none", "--data-dir", "data"), 1)
    assert "Whether it can be is not known now: " in said
    assert "127.0.0.1:1" in said


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("x.tgz", "write oci:x.tgz"),
        ("x.tar.gz", "write oci:x.tar.gz"),
        ("x.TAR.ZST", "write oci:x.TAR.ZST"),
        ("x.zip", "write oci:x.zip"),
        ("oci:", "there is no path"),
        ("docker-archive:", "there is no path"),
        ("", "there is no path"),
        ("folder.tar", "that is a directory"),
        ("docker-archive:folder", "that is a directory"),
        ("file", "that is a file"),
        ("oci:file", "that is a file"),
    ],
)
def test_outputs_that_are_refused_before_the_build(condery: Run, tmp_path: Path, output: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "file").write_text("mine")
    # a channel that cannot be reached would be told if anything was built
    said = fails(condery("build", "x", "--output", output, "--channel", "http://127.0.0.1:1/none"), 2)
    assert says in said
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("folder", "--output folder: that is a directory"),
        ("folder/", "--output folder: that is a directory"),
        ("", "--output .: that is a directory"),
        ("none/lock.yml", "--output none/lock.yml: there is no directory none"),
        ("file/lock.yml", "--output file/lock.yml: there is no directory file"),
    ],
)
def test_outputs_that_are_refused_before_the_solve(condery: Run, tmp_path: Path, output: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    assert says in fails(condery("lock", "x", "--output", output, "--channel", "http://127.0.0.1:1/none"), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("x.tar", _Place(Path("x.tar"), True)),
        ("x.TAR", _Place(Path("x.TAR"), True)),
        ("docker-archive:x.tgz", _Place(Path("x.tgz"), True)),
        ("x", _Place(Path("x"), False)),
        ("numpy-1.26", _Place(Path("numpy-1.26"), False)),
        ("oci:x.tar", _Place(Path("x.tar"), False)),
        ("oci:x.tgz", _Place(Path("x.tgz"), False)),
    ],
)
def test_outputs(output: str, place: _Place) -> None:
    assert _read_place(output) == place


@pytest.mark.parametrize("platform", ["linux64", "linux-amd64", "osx-arm64", "noarch", ""])
@pytest.mark.parametrize("command", [("settings", "show"), ("lock", "numpy"), ("serve",), ("demo",)])
def test_platforms_that_there_are_not(condery: Run, tmp_path: Path, command: tuple[str, ...], platform: str) -> None:
    (tmp_path / "condery.toml").write_text(f'platforms = ["linux-64", "{platform}"]\n')
    said = fails(condery(*command), 2)
    assert f"condery.toml: platforms: no image can be made for platform {platform!r}; the platforms are " in said
    assert all(each in said for each in OCI_PLATFORMS)


def test_without_a_platform_there_is_nothing_to_make(condery: Run, tmp_path: Path) -> None:
    (tmp_path / "condery.toml").write_text("platforms = []\n")
    assert "condery.toml: platforms: " in fails(condery("settings", "show"), 2)


@pytest.mark.parametrize("flag", ["--channel", "--channels", "--allowed-channels"])
@pytest.mark.parametrize("written", ["demo/channel", "./demo/channel", "demo/../demo/channel", "demo/channel/"])
def test_a_folder_that_is_given_as_a_channel(condery: Run, channel: Path, flag: str, written: str) -> None:
    if flag == "--allowed-channels":
        said = fails(condery("settings", "show", flag, written), 2)
    else:
        said = fails(condery("lock", "numpy", flag, written, "--data-dir", "data"), 2)
    assert f"is a directory here, and not the name of a channel: {channel.as_uri()}" in said


def test_names_of_channels_with_a_slash(condery: Run, channel: Path) -> None:
    (channel.parent / "file").touch()
    for name in ("pytorch/label/nightly", "demo", "demo/file", channel.as_uri(), str(channel)):
        assert condery("settings", "show", "--channels", name).exit_code == 0


@pytest.mark.parametrize("unbuffered", [True, False])
def test_a_reader_that_has_seen_enough(tmp_path: Path, unbuffered: bool) -> None:
    """Such as `head`: nothing is said of it, wherever it stops."""
    for command in (["settings", "show"], ["settings", "show", "--json"], ["--help"], ["serve", "--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as output:
            line = [sys.executable, "-m", "registry.cli", *command]
            variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
            variables |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
            pipe = subprocess.PIPE
            done = subprocess.run(line, stdout=output, stderr=pipe, cwd=tmp_path, env=variables, timeout=120)
        assert done.stderr == b"", command


def test_a_second_demonstration_leaves_the_channel_alone(
    condery: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(sample_channel, "make", lambda *arguments: made.append(arguments))
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        said = fails(condery("demo", "demo", "--port", port), 1)
    assert re.search(rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use; choose another --port", said)
    assert made == []
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::", ""])
def test_whether_a_port_is_free(host: str) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    check_free(host, 0)
    with socket.create_server(("::1" if ":" in host else "127.0.0.1", 0), family=_family(host)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen, match="Address already in use"):
            check_free(host, port)
    check_free(host, port)


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lock", "numpy", "--format", "yml"), "'yml' is not one of 'conda-lock', 'pixi', 'explicit', 'yaml'"),
        (("token", "create", "x", "--user", "a", "--days", "many"), "it must be a valid number"),
    ],
)
def test_values_that_are_none_are_told_in_our_words(condery: Run, arguments: tuple[str, ...], says: str) -> None:
    said = fails(condery(*arguments), 2)
    assert says in said
    assert "Value error" not in said
