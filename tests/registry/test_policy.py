"""A running server under a policy that changes between two pulls: what was in its memory is not answered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.builder.packages import Package, write_channel
from tests.support.registry.asking import Answer, ask, manifest_path
from tests.support.server import Server, StartServer

ROOT = "conda-store-dynamic"


@pytest.fixture
def channel(tmp_path: Path) -> str:
    packages = [Package("lib", "1.0", files={"share/lib": b"1"}), Package("lib", "2.0", files={"share/lib": b"2"})]
    write_channel(tmp_path / "channel", packages)
    return (tmp_path / "channel").as_uri()


def start(start_server: StartServer, channel: str, *flags: str) -> Server:
    return start_server("--channels", channel, "--base", "scratch", *flags)


def pull(server: Server, items: str = "lib", tag: str = "latest") -> Answer:
    answer = ask(server, manifest_path(items, tag))
    assert answer.status == 200, answer.body
    return answer


def list_locks(server: Server) -> list[str]:
    answer = ask(server, f"/v2/{ROOT}/lib/tags/list")
    return [tag for tag in answer.json()["tags"] if tag.startswith("lock-")]


def said(answer: Answer) -> tuple[int, str, str]:
    (error,) = answer.json()["errors"]
    return answer.status, error["code"], error["message"]


def set_policy(server: Server, tmp_path: Path, **document: Any) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(document))
    line = [sys.executable, "-m", "registry.cli", "policy", "set", ROOT, str(file), "--data-dir", str(server.data_dir)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_rule_holds_for_the_next_pull(start_server: StartServer, channel: str, tmp_path: Path) -> None:
    server = start(start_server, channel, "--processes", "2")
    first = pull(server)
    [tag] = list_locks(server)
    # now the tags are in the memory of the processes
    for _ in range(8):
        assert pull(server, tag=tag).body == first.body
        assert pull(server).body == first.body
    set_policy(server, tmp_path, denied_packages=["lib >=2 # CVE-1"])
    for _ in range(8):
        assert pull(server).body != first.body
        status, code, message = said(ask(server, manifest_path("lib", tag)))
        assert (status, code) == (404, "MANIFEST_UNKNOWN")
        assert message.startswith(
            f"{tag} is not served any more: lib-2.0-0 is denied by the policy of namespace {ROOT}"
        )
        assert "CVE-1" in message
        # who pinned a digest has said which bytes they want
        assert pull(server, tag=first.headers["Docker-Content-Digest"]).body == first.body
    for name in ("conda-lock.yml", "explicit.txt", "archive.tar.gz"):
        answer = ask(server, f"/files/{ROOT}/lib/{tag}/{name}")
        assert answer.status == 404
        assert "CVE-1" in answer.json()["message"]
    status, code, message = said(ask(server, manifest_path("lib.eq.2.0")))
    assert (status, code) == (404, "MANIFEST_UNKNOWN")
    assert "no lib ==2.0 may be taken: 2.0 is denied" in message


def test_a_list_that_changes_while_the_server_runs(start_server: StartServer, channel: str, tmp_path: Path) -> None:
    place = tmp_path / "deny-list"
    place.write_text("# nothing\n")
    # each process reads it by itself
    flags = ("--processes", "1", "--deny-list", str(place), "--deny-list-refresh", "1")
    server = start(start_server, channel, *flags)
    first = pull(server)
    [tag] = list_locks(server)
    assert ask(server, "/readyz").json()["notes"] == {"deny_list": "ok"}
    place.write_text("lib >=2 # CVE-2\n")
    while "CVE-2" not in ask(server, manifest_path("lib", tag)).body.decode():
        time.sleep(0.1)
    assert pull(server).body != first.body
    place.write_text("lib <<2\n")
    while ask(server, "/readyz").json()["notes"] != {"deny_list": "kept, since it cannot be read"}:
        time.sleep(0.1)
    assert ask(server, "/readyz").status == 200
    assert "CVE-2" in ask(server, manifest_path("lib", tag)).body.decode()


def test_without_a_list_nothing_is_built(start_server: StartServer, channel: str, tmp_path: Path) -> None:
    server = start(start_server, channel, "--deny-list", str(tmp_path / "nothing"))
    status, code, message = said(ask(server, manifest_path("lib")))
    assert (status, code) == (404, "MANIFEST_UNKNOWN")
    assert "cannot be used, so nothing can be built or served by tag: No such file or directory" in message
    assert ask(server, "/readyz").json()["notes"]["deny_list"].startswith("never read")
