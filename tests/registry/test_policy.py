"""A running server under a policy that changes between two pulls: what was in its memory is not answered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
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


def list_locks(server: Server, items: str = "lib") -> list[str]:
    answer = ask(server, f"/v2/{ROOT}/{items}/tags/list")
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
    assert server.told.endswith(
        f"; nothing is built until the deny list {tmp_path}/nothing is read: No such file or directory\n"
    )
    assert "docker pull" not in server.told
    (tmp_path / "nothing").write_text("# none\n")
    server.restart()
    assert "; try: docker pull " in server.told


@dataclass(frozen=True)
class Retired:
    """A server on what another has made of a channel that this one does not allow."""

    server: Server
    image: Answer
    files: dict[str, Answer]
    """Lock file and archive."""
    tag: str
    unmade: str
    """The tag of another lock, of which nothing was made."""


OTHER = "channel.other/lib"
UNMADE = "channel.other/app"


@pytest.fixture
def retired(start_server: StartServer, channel: str, tmp_path: Path) -> Retired:
    other = tmp_path / "other"
    write_channel(other, [Package("lib", "3.0", files={"share/lib": b"3"}), Package("app", "1.0")])
    flags = ("--channel-alias", tmp_path.as_uri())
    server = start(start_server, channel, *flags, "--allowed-channels", other.as_uri())
    image = pull(server, OTHER)
    [tag] = list_locks(server, OTHER)
    files = {name: ask(server, f"/files/{ROOT}/{OTHER}/{tag}/{name}") for name in ("conda-lock.yml", "archive.tar.gz")}
    assert {each.status for each in files.values()} == {200}
    assert ask(server, f"/files/{ROOT}/{UNMADE}/latest/explicit.txt").status == 200
    [unmade] = list_locks(server, UNMADE)
    assert server.stop() == 0
    second = start_server("--channels", channel, "--base", "scratch", *flags, data_dir=server.data_dir)
    return Retired(second, image, files, tag, unmade)


def test_of_a_channel_that_is_allowed_no_more_what_was_made_is_given_out(retired: Retired) -> None:
    server = retired.server
    assert "allowed_channels" in said(ask(server, manifest_path(OTHER)))[2]
    for tag in (retired.tag, retired.image.headers["Docker-Content-Digest"]):
        assert pull(server, OTHER, tag).body == retired.image.body
    for name, before in retired.files.items():
        assert ask(server, f"/files/{ROOT}/{OTHER}/{retired.tag}/{name}").body == before.body
        assert "allowed_channels" in ask(server, f"/files/{ROOT}/{OTHER}/latest/{name}").json()["message"]
    # nothing is fetched for a lock file
    assert ask(server, f"/files/{ROOT}/{UNMADE}/{retired.unmade}/conda-lock.yml").status == 200
    assert "allowed_channels" in said(ask(server, manifest_path(UNMADE, retired.unmade)))[2]
    answer = ask(server, f"/files/{ROOT}/{UNMADE}/{retired.unmade}/archive.tar.gz")
    assert (answer.status, "allowed_channels" in answer.json()["message"]) == (404, True)


def test_a_policy_refuses_what_was_made_of_a_channel(retired: Retired, channel: str, tmp_path: Path) -> None:
    server, rule = retired.server, "allowed_channels"
    set_policy(server, tmp_path, **{rule: [channel]})
    status, code, message = said(ask(server, manifest_path(OTHER, retired.tag)))
    assert (status, code) == (404, "MANIFEST_UNKNOWN")
    assert message.startswith(f"{retired.tag} is not served any more: ")
    assert f"the policy of namespace {ROOT} ({rule})" in message
    for name in (*retired.files, "explicit.txt"):
        answer = ask(server, f"/files/{ROOT}/{OTHER}/{retired.tag}/{name}")
        assert (answer.status, rule in answer.json()["message"]) == (404, True)
    assert pull(server, OTHER, retired.image.headers["Docker-Content-Digest"]).body == retired.image.body
