"""A disk without a free byte: what deletes still works, and what fails says where."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.disk.reserve import MOST, Reserve, free_bytes
from storage.layout import DataDirectory
from tests.support.registry.asking import ask, send
from tests.support.server import Server, StartServer
from tests.support.small_disk import small_disk

CONTENT = os.urandom(2 << 20)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 24) as directory:
        yield directory


def fill(directory: Path) -> None:
    """Not a byte is left."""
    with open(directory / "filler", "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert free_bytes(directory) == 0


def push_image(server: Server) -> str:
    """The digest of a manifest with one layer."""
    blobs = [push_blob(server, content) for content in (CONTENT, b"{}")]
    descriptors = [{"mediaType": "application/x", "digest": digest, "size": size} for digest, size in blobs]
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptors[1], "layers": [descriptors[0]]}
    ).encode()
    answer = send(server, "/v2/team/image/manifests/v1", "PUT", body, {"Content-Type": MANIFEST})
    assert answer.status == 201
    return str(answer.headers["Docker-Content-Digest"])


def push_blob(server: Server, content: bytes) -> tuple[str, int]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    answer = send(server, f"/v2/team/image/blobs/uploads/?digest={digest}", "POST", content)
    assert answer.status == 201
    return digest, len(content)


def gc(data: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "registry.cli", "gc", "--data-dir", str(data), "--gc-grace", "0", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("with_server", [True, False], ids=["beside a server", "alone"])
def test_deleting_and_collecting_work(start_server: StartServer, disk: Path, with_server: bool) -> None:
    data = disk / "data"
    server = start_server("--base", "scratch", "--gc-interval", "0", data_dir=data)
    digest = push_image(server)
    fill(disk)
    refused = send(server, f"/v2/team/image/blobs/uploads/?digest=sha256:{'0' * 64}", "POST", CONTENT)
    assert refused.status == 507
    message = refused.json()["errors"][0]["message"]
    assert "data directory" in message
    for path in (
        f"/v2/team/image/manifests/{digest}",
        *(f"/v2/team/image/blobs/{each}" for each in blobs_of(server, digest)),
    ):
        assert ask(server, path, "DELETE").status == 202
    if not with_server:
        server.stop()
    collected = gc(data)
    assert collected.returncode == 0, collected.stderr
    if not with_server:
        server.start()
    assert ask(server, f"/v2/team/image/manifests/{digest}").status == 404
    collected = gc(data)
    assert collected.returncode == 0, collected.stderr
    assert free_bytes(disk) > len(CONTENT) // 2
    (disk / "filler").unlink()
    push_image(server)


def blobs_of(server: Server, digest: str) -> list[str]:
    document = json.loads(ask(server, f"/v2/team/image/manifests/{digest}").body)
    return [document["config"]["digest"], document["layers"][0]["digest"]]


def test_a_server_starts_on_a_full_disk(start_server: StartServer, disk: Path) -> None:
    server = start_server("--base", "scratch", data_dir=disk / "data")
    digest = push_image(server)
    server.stop()
    fill(disk)
    server.start()
    assert ask(server, f"/v2/team/image/manifests/{digest}").status == 200
    assert ask(server, f"/v2/team/image/manifests/{digest}", "DELETE").status == 202


def test_the_reserve_is_a_small_part_of_a_small_disk(disk: Path, tmp_path: Path) -> None:
    assert Reserve(disk).size == (24 << 20) // 16
    assert Reserve(tmp_path).size == MOST


def test_the_reserve_is_spent_when_nothing_else_is_left_and_kept_again(disk: Path) -> None:
    reserve = Reserve(disk)
    reserve.prepare()
    assert DataDirectory(disk).reserve.stat().st_size == reserve.size
    fill(disk)
    reserve.keep()
    reserve.prepare()
    assert free_bytes(disk) >= reserve.size
    assert not reserve.spend()
    reserve.keep()
    assert not DataDirectory(disk).reserve.exists()
    (disk / "filler").unlink()
    reserve.keep()
    assert DataDirectory(disk).reserve.stat().st_size == reserve.size
    assert reserve.spend()
    assert [path.name for path in disk.iterdir()] == []
