"""An environment file pushed with oras, and the image of what it says pulled from there."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.programs import ClientError, Crane, OrasCommand, run
from tests.support.server import Server

pytestmark = pytest.mark.clients

ENVIRONMENT = "application/vnd.conda.environment.v1+yaml"


def push(oras: OrasCommand, reference: str, text: str) -> str:
    (oras.directory / "environment.yaml").write_text(text)
    return oras("push", reference, f"environment.yaml:{ENVIRONMENT}")


def test_oras_pushes_a_file_and_any_client_pulls_its_image(
    oras_command: OrasCommand, crane: Crane, served: Server
) -> None:
    name = f"{served.address}/oras/science"
    (oras_command.directory / "environment.yaml").write_text("dependencies: [tzdata]\n")
    command = [
        str(oras_command.program),
        "push",
        "--plain-http",
        f"{name}:first,second",
        f"environment.yaml:{ENVIRONMENT}",
    ]
    done = subprocess.run(command, cwd=oras_command.directory, capture_output=True, text=True, check=True, timeout=60)
    assert "of oras/science is QUEUED: pull oras/science:" in done.stderr
    config = json.loads(crane("config", "--insecure", f"{name}:latest"))
    assert config["os"] == "linux"
    tags = crane("ls", "--insecure", name).split()
    (build,) = [each for each in tags if each.isdecimal()]
    assert f"file-{build}" in tags
    assert not {"first", "second"} & set(tags)
    oras_command("pull", "--output", "back", f"{name}:file-{build}")
    assert (oras_command.directory / "back/environment.yaml").read_text() == "dependencies: [tzdata]\n"
    changed = push(oras_command, f"{name}:latest", "dependencies: [tzdata, ca-certificates]\n")
    assert "Digest: sha256:" in changed
    explicit = ["curl", "--silent", "--fail", f"{served.url}/files/oras/science/latest/explicit.txt"]
    for _ in range(600):
        if "/ca-certificates-" in run(explicit):
            return
        time.sleep(0.1)
    raise AssertionError(run(explicit))


def test_oras_shows_what_is_wrong_with_a_file(oras_command: OrasCommand, served: Server) -> None:
    with pytest.raises(ClientError, match=r"dependencies\[1\]: 'a b c d' is not a match spec"):
        push(oras_command, f"{served.address}/oras/wrong:v1", "dependencies: [tzdata, a b c d]\n")


def test_an_image_is_refused_with_what_to_do(
    oras_command: OrasCommand, crane: Crane, served: Server, tmp_path: Path
) -> None:
    name = f"{served.address}/oras/taken"
    push(oras_command, f"{name}:v1", "dependencies: [tzdata]\n")
    crane("config", "--insecure", f"{name}:latest")
    with pytest.raises(ClientError, match="condery env update oras/taken FILE`, or push such a file as an artifact"):
        crane("copy", "--insecure", f"{served.address}/conda-store-dynamic/tzdata:latest", f"{name}:v2")
