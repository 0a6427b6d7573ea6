"""`condery serve` as a process: starting, answering, stopping, and starting again over the same data."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.server import Server, StartServer

OCI = "application/vnd.oci.image.index.v1+json"
IMAGE = "/v2/conda-store-dynamic/tzdata/manifests/latest"


def get(server: Server, path: str) -> tuple[int, bytes]:
    request = urllib.request.Request(server.url + path, headers={"Accept": OCI})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.status, response.read()


@pytest.fixture
def flags(sample_channel: Path) -> list[str]:
    return ["--channels", sample_channel.as_uri(), "--base", "scratch", "--workers", "1"]


def test_it_answers_logs_stops_cleanly_and_has_the_same_image_again(
    start_server: StartServer, flags: list[str]
) -> None:
    server = start_server(*flags)
    assert get(server, "/healthz")[0] == 200
    assert get(server, "/readyz")[0] == 200
    image = get(server, IMAGE)
    assert image[0] == 200
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    [built] = [line for line in lines if line["event"] == "build completed"]
    [asked] = [line for line in lines if line["event"] == "request" and line["path"] == IMAGE]
    assert (asked["status"], asked["build"], asked["principal"]) == (200, built["build"], "anonymous")
    server.restart()
    assert get(server, IMAGE) == image
    server.kill()
    server.restart()
    assert get(server, IMAGE) == image
    assert server.stop(signal.SIGINT) == 0


def test_several_processes_share_a_port_and_stop_together(start_server: StartServer, flags: list[str]) -> None:
    server = start_server(*flags, "--processes", "2")
    answers = {get(server, IMAGE) for _ in range(6)}
    assert len(answers) == 1
    assert server.stop() == 0


def test_a_port_in_use_is_told_in_one_line(start_server: StartServer, flags: list[str], tmp_path: Path) -> None:
    server = start_server(*flags)
    command = [sys.executable, "-m", "registry.cli", "serve", "--port", str(server.port), "--data-dir", str(tmp_path)]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(f"condery: cannot listen on 127.0.0.1:{server.port}: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "--vault-key-file /nothere",
        "--credentials /nothere",
        "--host 0.0.0.0 --admin-password-file /nothere",
        "--webhooks https://hooks.example.org --webhook-secret-file /nothere",
        "--s3-bucket x --s3-endpoint http://127.0.0.1:1 --s3-credentials /nothere",
        "--workload-ca-file /nothere",
        "--tls-key x --tls-certificate /nothere",
        "--base debian",
    ],
)
def test_a_setting_that_has_to_be_another_ends_a_start_with_2(line: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "registry.cli", "serve", "--port", "0", "--data-dir", str(tmp_path), *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert line.split()[-1] in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_a_channel_whose_directory_is_not_there_is_told_at_the_start(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    channels = [str(tmp_path / "nothere"), (tmp_path / "gone").as_uri(), str(tmp_path / "there"), "conda-forge"]
    server = start_server("--base", "scratch", "--workers", "1", "--channels", ",".join(channels))
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line["channel"] for line in lines if line["event"].startswith("a channel's directory")] == channels[:2]
