"""What docs/environments-in-use.md shows, run with docker, podman and curl."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.support.programs import Docker, Podman
from tests.support.server import Server

PAGE = Path(__file__).parents[3] / "docs/environments-in-use.md"
FILE = "name: analysis\ndependencies: [python, numpy]\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def analysis(served: Server) -> str:
    """The environment of the page; yields where its images are."""
    body = json.dumps({"namespace": "team", "specification": FILE}).encode()
    request = urllib.request.Request(
        f"{served.url}/api/v1/specification/", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["data"]["build_id"] == 1
    return f"{served.address}/team/analysis"


def here(text: str, served: Server) -> str:
    """The page's commands for this server."""
    return text.replace("https://registry.example.org", served.url).replace("registry.example.org", served.address)


def test_a_job_in_the_image(analysis: str, served: Server, docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text("import numpy; print('right', numpy.arange(3).sum())")
    command = here(blocks("sh")[0], served).replace("--rm", "--rm --network none")
    done = subprocess.run(
        ["sh", "-euc", command], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "right 3\n"


def test_a_job_of_gitlab_has_a_shell_in_the_image(analysis: str, served: Server, docker: Docker) -> None:
    job = yaml.safe_load(here(blocks("yaml")[0], served))["test"]
    assert job["script"] == ["python check.py"]
    assert docker.run(job["image"], "sh", "-c", "command -v python").startswith("/opt/conda/")


def test_a_job_with_the_archive(analysis: str, served: Server, tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text("import numpy; print('right', numpy.arange(3).sum())")
    command = here(blocks("sh")[1], served).replace("curl ", "curl --silent --show-error --retry 60 ")
    done = subprocess.run(
        ["sh", "-euc", command], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("right 3\n")


def test_a_pod(analysis: str, served: Server, podman: Podman) -> None:
    pod = yaml.safe_load(here(blocks("yaml")[1], served))
    [container] = pod["spec"]["containers"]
    podman.pull(container["image"])
    options = ["--rm", "--network", "none", "--read-only", "--security-opt", "no-new-privileges"]
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    entry, *arguments = container["command"]
    command = podman.command(
        "run", *options, *limits, "--entrypoint", json.dumps([entry]), container["image"], *arguments
    )
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "3\n"


def test_a_profile_of_jupyterhub() -> None:
    [text] = blocks("python")
    assignment = ast.parse(text).body[0]
    assert isinstance(assignment, ast.Assign)
    [profile] = ast.literal_eval(assignment.value)
    assert profile["kubespawner_override"]["cmd"] == ["jupyterhub-singleuser"]
