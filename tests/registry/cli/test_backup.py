"""A backup that is made while clients push stands in for the data directory, with all that was there when it began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from storage.digest import Digest
from storage.errors import BackupFailed
from storage.garbage.exclusive import last_collection, only_here
from storage.integrity.backup import back_up
from storage.layout import DataDirectory
from tests.support.registry.client import QUIET, Client
from tests.support.registry.pushes import image_manifest
from tests.support.server import Server, StartServer

IMAGES = 6


def condery(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "registry.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def push_image(client: Client, repository: str) -> None:
    layer = os.urandom(200_000)
    assert client.push_whole(repository, b"{}") == 201
    assert client.push_chunks(repository, layer) == 201
    assert client.push_manifest(repository, "latest", image_manifest(b"{}", [layer])) == 201


def test_backup_of_a_running_server_can_be_restored(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(*QUIET, data_dir=tmp_path / "data")
    before, during = Client(server), Client(server)
    for number in range(IMAGES):
        push_image(before, f"before/r{number}")
    done = Event()

    def go_on() -> None:
        number = 0
        while not done.is_set():
            number += 1
            push_image(during, f"during/r{number}")

    with ThreadPoolExecutor(1) as thread:
        pushing = thread.submit(go_on)
        first = _back_up(tmp_path)
        second = _back_up(tmp_path)
        done.set()
        pushing.result()
    assert first["copied"] == first["bytes"] > IMAGES * 200_000
    assert second["copied"] <= second["bytes"] - first["bytes"]
    server.kill()
    restored = start_server(*QUIET, data_dir=tmp_path / "backup")
    Client(restored, blobs=before.blobs, manifests=before.manifests).check()
    push_image(Client(restored), "after")
    restored.stop()
    verified = condery("verify", "--data-dir", tmp_path / "backup")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _back_up(tmp_path: Path) -> dict[str, int]:
    made = condery("backup", tmp_path / "backup", "--data-dir", tmp_path / "data", "--json")
    assert made.returncode == 0, made.stderr
    document: dict[str, int] = json.loads(made.stdout)
    return document


def test_what_nothing_needs_any_more_leaves_the_backup(start_server: StartServer, tmp_path: Path) -> None:
    server: Server = start_server(*QUIET, data_dir=tmp_path / "data")
    client = Client(server)
    push_image(client, "a")
    _back_up(tmp_path)
    size = len(list((tmp_path / "backup" / "blobs").rglob("*")))
    (digest,) = {Digest.of(body) for body in client.manifests.values()}
    assert client.delete("a", digest) == 202
    server.stop()
    collected = condery("gc", "--data-dir", tmp_path / "data", "--gc-grace", "0", "--untagged-for", "1")
    assert collected.returncode == 0, collected.stderr
    _back_up(tmp_path)
    assert len(list((tmp_path / "backup" / "blobs").rglob("*"))) < size


def test_backup_waits_for_no_collection_and_says_so(tmp_path: Path, start_server: StartServer) -> None:
    server = start_server(*QUIET, data_dir=tmp_path / "data")
    server.stop()
    with only_here(tmp_path / "data"):
        made = condery("backup", tmp_path / "backup", "--data-dir", tmp_path / "data")
    assert made.returncode == 1
    assert "process" in made.stderr
    assert not (tmp_path / "backup").exists()


def test_backup_is_no_collection(tmp_path: Path, start_server: StartServer) -> None:
    """Or backups often enough would keep the server from ever collecting."""
    server = start_server(*QUIET, data_dir=tmp_path / "data")
    server.stop()
    with only_here(tmp_path / "data"):
        pass
    os.utime(DataDirectory(tmp_path / "data").collecting, (1_000_000_000, 1_000_000_000))
    _back_up(tmp_path)
    assert last_collection(tmp_path / "data") == 1_000_000_000


def test_backup_that_breaks_off_leaves_the_one_before_it(tmp_path: Path, start_server: StartServer) -> None:
    server = start_server(*QUIET, data_dir=tmp_path / "data")
    client = Client(server)
    push_image(client, "a")
    server.stop()
    back_up(tmp_path / "data", tmp_path / "backup")
    database = (tmp_path / "backup" / "condery.sqlite").read_bytes()
    server.start()
    push_image(client, "b")
    server.stop()
    newest = max((tmp_path / "data" / "blobs").glob("*/*"), key=lambda path: path.stat().st_mtime_ns)
    content = newest.read_bytes()
    newest.unlink()
    with pytest.raises(BackupFailed, match=newest.name):
        back_up(tmp_path / "data", tmp_path / "backup")
    assert (tmp_path / "backup" / "condery.sqlite").read_bytes() == database
    newest.write_bytes(content)
    back_up(tmp_path / "data", tmp_path / "backup")
    assert (tmp_path / "backup" / "condery.sqlite").read_bytes() != database


def test_nothing_to_back_up(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    made = condery("backup", tmp_path / "backup", "--data-dir", tmp_path / "data")
    assert made.returncode == 1
    assert "no such database" in made.stderr
    refused = condery("backup", tmp_path / "backup", "--database", "postgresql://a@b/c")
    assert refused.returncode == 2
    assert "docs/backup.md" in refused.stderr


def test_a_backup_over_the_data_itself_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "blobs").mkdir(parents=True)
    (data / "condery.sqlite").write_bytes(b"")
    (tmp_path / "link").symlink_to(data)
    for target in (data, data / "blobs", data / "new", tmp_path, tmp_path / "link", tmp_path / "link" / "new"):
        with pytest.raises(BackupFailed, match="name another"):
            back_up(data, target)
    assert (data / "condery.sqlite").read_bytes() == b""


def test_a_backup_over_other_files_is_refused(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "mine"
    data.mkdir()
    (target / "blobs").mkdir(parents=True)
    (target / "blobs" / "thesis").write_bytes(b"years of work")
    with pytest.raises(BackupFailed, match="not belong to a backup"):
        back_up(data, target)
    assert (target / "blobs" / "thesis").read_bytes() == b"years of work"


@pytest.mark.parametrize("command", [["gc"], ["verify"], ["backup", "copy"]])
def test_commands_that_look_at_a_data_directory_make_none(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "registry.cli", *command, "--data-dir", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 2
    assert "there is no data directory" in done.stderr
    assert not (tmp_path / "nowhere").exists()
