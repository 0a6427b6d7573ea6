"""The data directory is its owner's alone."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from builder import publish
from registry.cli.app import app
from storage.vault.key_text import new_key
from tests.support.builder.packages import Package, write_channel
from tests.support.registry.asking import ask, manifest_path
from tests.support.server import StartServer


def open_places(directory: Path) -> list[str]:
    """What others than the owner may read, write or enter."""
    places = [directory, *directory.rglob("*")]
    return [str(path) for path in places if not path.is_symlink() and path.stat().st_mode & 0o077]


@pytest.fixture
def channel(tmp_path: Path) -> str:
    write_channel(tmp_path / "channel", [Package("tool", files={"bin/tool": b"x"})])
    return (tmp_path / "channel").as_uri()


def test_a_server_makes_all_of_it_for_its_owner(start_server: StartServer, channel: str) -> None:
    server = start_server("--channels", channel, "--base", "scratch", "--workers", "1")
    assert ask(server, manifest_path("tool")).status == 200
    assert ask(server, "/files/conda-store-dynamic/tool/latest/archive.tar.gz").status == 200
    assert open_places(server.data_dir) == []
    server.stop()
    assert "may enter the data directory" not in server.log.read_text()


def test_one_that_exists_is_told_and_left(start_server: StartServer, channel: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    server = start_server("--channels", channel, "--base", "scratch", data_dir=data)
    server.stop()
    assert stat.S_IMODE(data.stat().st_mode) == 0o755
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    [told] = [line for line in lines if "may enter the data directory" in line["event"]]
    assert (told["mode"], told["fix"]) == ("0755", f"chmod -R go= {data}")


@pytest.mark.parametrize(("mode", "told"), [(0o600, []), (0o400, []), (0o644, ["0644"]), (0o620, ["0620"])])
def test_files_of_secrets_that_others_reach_are_told(
    start_server: StartServer, tmp_path: Path, mode: int, told: list[str]
) -> None:
    files = {"vault_key_file": tmp_path / "keys", "credentials": tmp_path / "logins"}
    files["vault_key_file"].write_text(new_key())
    files["credentials"].write_text("{}")
    for file in files.values():
        file.chmod(mode)
    config = tmp_path / "condery.toml"
    config.write_text('base = "scratch"\n' + "".join(f'{name} = "{file}"\n' for name, file in files.items()))
    server = start_server("--config", str(config))
    server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    found = [line for line in lines if "a file of secrets" in line["event"]]
    assert [(line["setting"], line["mode"]) for line in found] == [(name, each) for name in files for each in told]
    assert [line["fix"] for line in found] == [f"chmod go= {files[line['setting']]}" for line in found]


def test_commands_make_it_private_and_their_output_as_the_caller_likes(channel: str, tmp_path: Path) -> None:
    data, image, backup = tmp_path / "data", tmp_path / "image.tar", tmp_path / "backup"
    common = ["--data-dir", str(data)]
    for output in (image, tmp_path / "new" / "layout"):
        run("build", "tool", "--channels", channel, "--base", "scratch", "--output", str(output), *common)
    run("backup", str(backup), *common)
    assert open_places(data) == []
    assert open_places(backup) == []
    layout = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in layout if path.is_dir()} == {0o775}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [image, *layout] if path.is_file()} == {0o664}


@pytest.mark.parametrize("output", ["image.tar", "layout"])
def test_output_is_written_under_the_umask_of_the_data_directory(
    restored_logs: None, monkeypatch: pytest.MonkeyPatch, channel: str, tmp_path: Path, output: str
) -> None:
    """What other threads write into that meanwhile must not be readable by others."""
    modes = []

    def noting(write: Callable[..., None]) -> Callable[..., None]:
        def write_and_note(*arguments: Any, **options: Any) -> None:
            (tmp_path / "meanwhile").write_bytes(b"")
            modes.append(stat.S_IMODE((tmp_path / "meanwhile").stat().st_mode))
            write(*arguments, **options)

        return write_and_note

    for name in ("write_docker_archive", "write_oci_layout"):
        monkeypatch.setattr(publish, name, noting(getattr(publish, name)))
    options = ["--channels", channel, "--base", "scratch", "--data-dir", str(tmp_path / "data")]
    done = CliRunner().invoke(app, ["build", "tool", "--output", str(tmp_path / output), *options])
    assert done.exit_code == 0, done.output
    assert modes == [0o600]


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "registry.cli", *arguments], capture_output=True, text=True, timeout=120, umask=0o002
    )
    assert done.returncode == 0, done.stderr
