"""What no image's name says is built all the same, and pulled by its handle: `spec.<hash>`."""

from __future__ import annotations

import json
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from registry.cli.app import app
from tests.support.builder.packages import Package, write_channel
from tests.support.server import Server, StartServer

MANY = [f"package-{number}" for number in range(120)]
ROOT = "conda-store-dynamic"


@dataclass(frozen=True)
class Store:
    """A data directory, the channel of its settings, and another channel."""

    data: Path
    channel: str
    other: str

    @property
    def flags(self) -> list[str]:
        return ["--channels", self.channel, "--base", "scratch", "--workers", "1"]


@pytest.fixture
def store(tmp_path: Path, restored_logs: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    own = [Package(name, noarch="generic", files={f"share/{name}": name.encode()}) for name in [*MANY, "_openmp_mutex"]]
    builds = [Package("x", build=build, files={"share/x": build.encode()}) for build in ("0", "10")]
    write_channel(tmp_path / "channel", [*own, *builds])
    write_channel(tmp_path / "c", [Package("lib", noarch="generic", files={"share/lib": b"lib"})])
    return Store(tmp_path / "data", (tmp_path / "channel").as_uri(), (tmp_path / "c").as_uri())


def condery(store: Store, command: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [command, *arguments, *store.flags, "--data-dir", str(store.data)])


def build(store: Store, *arguments: str) -> dict[str, Any]:
    done = condery(store, "build", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    built: dict[str, Any] = json.loads(done.stdout)
    return built


def get(server: Server, path: str) -> tuple[str | None, bytes]:
    """The digest that the answer says, and its body; raises HTTPError."""
    with urllib.request.urlopen(f"{server.url}{path}") as answer:
        return answer.headers["Docker-Content-Digest"], answer.read()


@pytest.mark.parametrize(
    "specs_of",
    [lambda _: MANY, lambda _: ["_openmp_mutex"], lambda store: [f"{store.other}::lib"], lambda _: ["x=1.0=0"]],
    ids=["120 packages", "underscore", "channel by URL", "whole build"],
)
def test_the_handle_that_a_build_prints_is_pulled(
    store: Store, start_server: StartServer, specs_of: Callable[[Store], list[str]]
) -> None:
    built = build(store, *specs_of(store))
    reference = built["reference"]
    assert re.fullmatch(rf"{ROOT}/spec\.[0-9a-f]{{16}}:lock-[0-9a-f]{{12}}", reference)
    repository, _, tag = reference.partition(":")

    server = start_server(*store.flags, "--allowed-channels", store.other, data_dir=store.data)
    assert get(server, f"/v2/{repository}/manifests/{tag}")[0] == built["digest"]
    assert get(server, f"/v2/{repository}/manifests/latest")[0] == built["digest"]
    tags = json.loads(get(server, f"/v2/{repository}/tags/list")[1])
    assert tags == {"name": repository, "tags": ["latest", tag]}
    assert b"@EXPLICIT" in get(server, f"/files/{repository}/{tag}/explicit.txt")[1]
    server.stop()

    shown = [condery(store, "explain", "--json", image) for image in (reference, repository, built["lock"])]
    assert [json.loads(each.stdout)["lock"] for each in shown] == [built["lock"]] * 3


def test_a_channel_that_is_not_allowed_is_read_for_its_handle_no_more(store: Store, start_server: StartServer) -> None:
    repository, _, tag = build(store, f"{store.other}::lib")["reference"].partition(":")
    server = start_server(*store.flags, data_dir=store.data)
    assert get(server, f"/v2/{repository}/manifests/{tag}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, f"/v2/{repository}/manifests/latest")
    assert b"is not allowed here" in caught.value.read()


def test_an_image_without_a_name_is_written_and_pushed(store: Store, tmp_path: Path, start_server: StartServer) -> None:
    other = start_server("--base", "scratch", "--workers", "1", "--channels", "file:///nowhere")
    archive, layout = str(tmp_path / "image.tar"), str(tmp_path / "layout")
    pushed = build(store, *MANY, "--output", archive, "--push", f"{other.address}/team/many:v1")
    assert get(other, "/v2/team/many/manifests/v1")[0] == pushed["digest"]
    with tarfile.open(archive) as tar:
        [entry] = json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest.json"))
    assert entry["RepoTags"] == [pushed["reference"]]
    build(store, *MANY, "--output", layout)
    [named] = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    tag = named["annotations"]["org.opencontainers.image.ref.name"]
    assert tag == pushed["reference"].rpartition(":")[2] == f"lock-{pushed['lock'][:12]}"


def test_a_handle_that_nothing_is_stored_for_says_where_one_comes_from(store: Store, start_server: StartServer) -> None:
    server = start_server(*store.flags, data_dir=store.data)
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, f"/v2/{ROOT}/spec.0123456789abcdef/manifests/latest")
    assert caught.value.code == 404
    assert b"condery build" in caught.value.read()
