"""`condery gc`, `condery verify` and the server's own schedule, over what real servers have stored."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from storage.digest import Digest
from storage.garbage.exclusive import only_here
from tests.support.registry.client import QUIET, Client
from tests.support.registry.commands import condery, files, report
from tests.support.registry.pushes import image_manifest
from tests.support.registry.stored import read_log
from tests.support.server import Server, StartServer

NOW = ("--gc-grace", "0", "--untagged-for", "0.001")
DEADLINE = 60


@pytest.fixture
def server(start_server: StartServer, tmp_path: Path) -> Server:
    return start_server(*QUIET, "--gc-interval", "0", data_dir=tmp_path / "data")


def push(client: Client, repository: str, tag: str = "latest", layer: bytes | None = None) -> bytes:
    """Push an image with a layer of its own; its manifest."""
    layer = layer or os.urandom(100_000)
    body = image_manifest(b"{}", [layer])
    assert client.push_whole(repository, b"{}") == 201
    assert client.push_whole(repository, layer) == 201
    assert client.push_manifest(repository, tag, body) == 201
    return body


def test_what_is_deleted_gives_its_bytes_back(server: Server) -> None:
    client = Client(server)
    kept, gone = push(client, "a"), push(client, "b")
    assert client.delete("b", Digest.of(gone)) == 202
    told = report(server.data_dir, "gc", "--dry-run", *NOW)
    assert told["dry_run"]
    assert len(files(server.data_dir)) == 3
    done = report(server.data_dir, "gc", *NOW)
    assert {name: step["count"] for name, step in done["steps"].items()} == {
        name: step["count"] for name, step in told["steps"].items()
    }
    assert done["bytes"] == told["bytes"] > 100_000
    assert len(files(server.data_dir)) == 2
    client.blobs = {key: data for key, data in client.blobs.items() if key[0] == "a"}
    client.check()
    assert report(server.data_dir, "verify")["damage"] == []
    assert Digest.of(kept) in {digest for _, digest in client.manifests}


def test_events_of_the_audit_log_end_with_their_days(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(server)
    push(client, "team/a")

    def events() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = report(server.data_dir, "audit")["events"]
        return found

    waited = time.monotonic() + DEADLINE
    while not events():
        assert time.monotonic() < waited
        time.sleep(0.1)
    monkeypatch.setenv("CONDERY_AUDIT_DAYS", "0.00000001")
    report(server.data_dir, "gc", "--dry-run")
    for kept in ("1", "0"):
        monkeypatch.setenv("CONDERY_AUDIT_DAYS", kept)
        report(server.data_dir, "gc")
        assert events(), kept
    monkeypatch.setenv("CONDERY_AUDIT_DAYS", "0.00000001")
    report(server.data_dir, "gc")
    assert events() == []


def test_nothing_young_is_collected(server: Server) -> None:
    client = Client(server)
    assert client.push_whole("a", b"not yet in a manifest") == 201
    body = push(client, "a", "once")
    assert client.delete("a", "once") == 202
    assert report(server.data_dir, "gc")["bytes"] == 0
    assert client.ask("GET", f"/v2/a/manifests/{Digest.of(body)}")[0] == 200


def test_retention_rules(server: Server) -> None:
    client = Client(server)
    for number in range(5):
        push(client, "ci/a", f"run-{number}")
    push(client, "ci/a", "release-1")
    push(client, "other", "run-0")
    rule = "ci/* keep-last=2 keep=release-*"
    assert report(server.data_dir, "gc", "--retention", rule, *NOW)["steps"]["tags"]["count"] == 4
    assert json.loads(client.ask("GET", "/v2/ci/a/tags/list")[2])["tags"] == ["release-1", "run-4"]
    assert json.loads(client.ask("GET", "/v2/other/tags/list")[2])["tags"] == ["run-0"]


def test_two_collections_at_once_are_one_too_many(server: Server) -> None:
    with only_here(server.data_dir):
        done = condery(server.data_dir, "gc")
    assert done.returncode == 1
    assert f"process {os.getpid()}" in done.stderr


def test_the_server_collects_by_itself(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(*QUIET, "--gc-interval", "0.5", *NOW, "--processes", "2", data_dir=tmp_path / "data")
    client = Client(server)
    assert client.push_whole("a", os.urandom(50_000)) == 201
    deadline = time.monotonic() + DEADLINE
    while files(server.data_dir) or not any(
        line["steps"]["blobs"]["count"] == 1 for line in read_log(server, "garbage collected")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_damage_is_found_told_and_mended(server: Server) -> None:
    client = Client(server)
    layer, other = os.urandom(100_000), os.urandom(50_000)
    body = push(client, "team/a", "v1", layer)
    push(client, "team/b", "v2", other)
    by_size = {path.stat().st_size: path for path in files(server.data_dir)}
    by_size[100_000].write_bytes(layer[:-1] + bytes([layer[-1] ^ 1]))
    by_size[50_000].unlink()
    result = report(server.data_dir, "verify", code=1)
    found = {each["digest"]: each["needed_by"] for each in result["damage"]}
    assert found == {Digest.of(layer): ["team/a:v1"], Digest.of(other): ["team/b:v2"]}
    told = condery(server.data_dir, "verify")
    assert f"blob {Digest.of(other)}: its bytes are missing; needed by team/b:v2" in told.stdout
    mended = report(server.data_dir, "verify", "--repair", code=1)
    assert mended["forgotten"] == {"blobs": 2, "manifests": 0, "images": 0}
    assert client.ask("GET", f"/v2/team/a/blobs/{Digest.of(layer)}")[0] == 404
    lacking = report(server.data_dir, "verify", code=1)["damage"]
    assert sorted(each["needed_by"] for each in lacking) == [["team/a:v1"], ["team/b:v2"]]
    assert client.push_whole("team/a", layer) == 201
    assert client.push_manifest("team/a", "v1", body) == 201
    assert client.delete("team/b", "v2") == 202
    report(server.data_dir, "gc", *NOW)
    assert report(server.data_dir, "verify")["damage"] == []
    assert client.ask("GET", f"/v2/team/a/blobs/{Digest.of(layer)}")[2] == layer


@pytest.mark.parametrize(
    ("setting", "text", "problem"),
    [
        ("quotas", "team/* lots", "'lots' is not one of bytes=, tags="),
        ("quotas", "team/*", "say bytes=10GB, tags=100, or both"),
        ("quotas", "team/* bytes=many", "'many' is not a size"),
        ("immutable-tags", "prod", "is not REPOSITORY:TAG"),
        ("retention", "ci/* keep=v*", "every tag would be deleted"),
        ("retention", "ci/* keep-last=-1", "'-1' is not a whole number"),
        ("fragments-limit", "1 parsec", "'1 parsec' is not a size"),
    ],
)
def test_rules_that_make_no_sense(tmp_path: Path, setting: str, text: str, problem: str) -> None:
    done = condery(tmp_path, "gc", f"--{setting}", text)
    assert done.returncode == 2
    assert f"--{setting}: " in done.stderr
    assert problem in done.stderr
