"""The files beside an image, fetched with curl: made on demand, saved under their names, resumed, not sent twice."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.programs import ClientError, need, run
from tests.support.registry.stored import builds, read_log
from tests.support.server import Server, StartServer
from tests.support.servers.channel_server import ChannelServer, in_a_thread

pytestmark = pytest.mark.clients

FILES = "/files/conda-store-dynamic/tzdata/ca-certificates/latest"
ARCHIVE = f"{FILES}/archive.tar.gz"

Curl = Callable[..., str]


@pytest.fixture
def curl(tmp_path: Path, served: Server) -> Curl:
    """curl in an empty directory; its first argument is a path at the server. Gives what it prints."""
    need("curl")

    def fetch(path: str, *options: str | Path, server: Server = served, fail: str = "--fail") -> str:
        command = ["curl", "--silent", "--show-error", fail, "--output-dir", tmp_path, *options, server.url + path]
        return run(command)

    return fetch


def header(text: str, name: str) -> str:
    """The value of a header in what `curl --head` or `--dump-header -` prints."""
    [value] = [line.partition(":")[2].strip() for line in text.splitlines() if line.lower().startswith(f"{name}:")]
    return value


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("conda-lock.yml", "application/yaml"),
        ("explicit.txt", "text/plain; charset=utf-8"),
        ("environment.yaml", "application/yaml"),
        ("archive.tar.gz", "application/gzip"),
        ("pixi.lock", "application/yaml"),
        ("sbom.spdx.json", "application/spdx+json"),
        ("sbom.cdx.json", "application/vnd.cyclonedx+json"),
        ("provenance.json", "application/vnd.in-toto+json"),
        ("report.json", "application/json"),
    ],
)
def test_a_file_is_saved_under_its_name(name: str, media_type: str, curl: Curl, tmp_path: Path) -> None:
    headers = curl(f"{FILES}/{name}", "--remote-name", "--remote-header-name", "--dump-header", "-")
    [saved] = tmp_path.iterdir()
    assert saved.name in header(headers, "content-disposition")
    assert saved.name.startswith("ca-certificates-tzdata-")
    assert saved.name.endswith(name.removeprefix("archive"))
    assert header(headers, "content-type") == media_type
    content = saved.read_bytes()
    assert header(headers, "content-length") == str(len(content))
    assert header(headers, "etag") == f'"sha256:{hashlib.sha256(content).hexdigest()}"'


def test_the_documents_name_the_packages(curl: Curl) -> None:
    lock = yaml.safe_load(curl(f"{FILES}/conda-lock.yml"))
    assert {package["name"] for package in lock["package"]} == {"tzdata", "ca-certificates"}
    environment = yaml.safe_load(curl(f"{FILES}/environment.yaml"))
    assert [spec.partition("=")[0] for spec in environment["dependencies"]] == ["ca-certificates", "tzdata"]
    lines = curl(f"{FILES}/explicit.txt").splitlines()
    assert "@EXPLICIT" in lines
    assert sum(line.startswith("file://") for line in lines) == 2


def test_what_one_has_is_not_sent_again(curl: Curl, tmp_path: Path) -> None:
    tag = tmp_path / "tag"
    curl(f"{FILES}/explicit.txt", "--etag-save", tag, "--output", "first")
    assert (tmp_path / "first").stat().st_size
    status = curl(f"{FILES}/explicit.txt", "--etag-compare", tag, "--output", "again", "--write-out", "%{http_code}")
    assert status == "304"


def test_a_broken_download_is_resumed(curl: Curl, tmp_path: Path) -> None:
    curl(ARCHIVE, "--output", "whole")
    whole = (tmp_path / "whole").read_bytes()
    curl(ARCHIVE, "--range", "0-999", "--output", "part")
    assert (tmp_path / "part").read_bytes() == whole[:1000]
    status = curl(ARCHIVE, "--continue-at", "-", "--output", "part", "--write-out", "%{http_code}")
    assert status == "206"
    assert (tmp_path / "part").read_bytes() == whole
    with tarfile.open(tmp_path / "part") as archive:
        assert {"bin/conda-unpack", "ssl/cacert.pem"} <= set(archive.getnames())


def test_a_misspelt_package_is_told(curl: Curl) -> None:
    path = "/files/conda-store-dynamic/tzdeta/latest/explicit.txt"
    with pytest.raises(ClientError, match=r"(?s)did you mean tzdata\?.*error: 404"):
        curl(path, fail="--fail-with-body")


def test_curl_comes_back_for_a_file_that_is_still_made(
    curl: Curl, start_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("channel")
    asyncio.run(make_channel(directory, [Package("slow", files={"share/slow": b"slow\n"})]))
    channel = ChannelServer(directory)
    held = channel.hold("")
    with in_a_thread(channel), ThreadPoolExecutor() as threads:
        server = start_server("--channels", channel.url, "--base", "scratch", "--answer-within", "0.5")
        path = "/files/conda-store-dynamic/slow/latest/explicit.txt"
        fetched = threads.submit(curl, path, "--retry", "100", server=server)
        while not read_log(server, "request"):
            time.sleep(0.05)
        held.released.set()
        assert fetched.result().splitlines()[-1].startswith(channel.url)
    assert read_log(server, "request")[0]["status"] == 503
    assert len(builds(server)) == 1
