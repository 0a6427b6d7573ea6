"""Containers that docker starts are activated as conda would: by bash, with scripts that need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.builder.packages import PLACEHOLDER, Entry, File, Package, write_channel
from tests.support.programs import Docker, run
from tests.support.server import Server

pytestmark = pytest.mark.clients

COMPILER = b"""#!/bin/bash
# as the compiler packages of conda-forge do it
function _tc_activation() {
  local -a tools=(ar as "ld gold")
  local name
  for name in "${tools[@]}"; do
    [[ ${name} == ld* ]] && export TC_LINKER="${name}"
  done
  export TC_COUNT="${#tools[@]}" TC_RUNS="$((${TC_RUNS:-0} + 1))"
}
_tc_activation
"""
VARIABLES = b'{"TC_HOME": "' + PLACEHOLDER.encode() + b'/lib"}'
SHOW = 'echo "$TC_LINKER/$TC_COUNT/$TC_RUNS/$TC_HOME"'
EXPECTED = "ld gold/3/1//opt/conda/lib\n"
REPOSITORY = "conda-store-dynamic/compiler:latest"


@pytest.fixture(scope="module")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an image over the host's base, whose activation needs bash."""
    directory = tmp_path_factory.mktemp("activation")
    files: dict[str, Entry] = {
        "etc/conda/activate.d/compiler.sh": COMPILER,
        "etc/conda/env_vars.d/compiler.json": File(VARIABLES, placeholder="text"),
    }
    write_channel(directory / "channel", [Package("compiler", files=files)])
    server = Server(("--channels", (directory / "channel").as_uri()), directory / "data", directory / "log")
    server.start()
    docker.pull(f"{server.address}/{REPOSITORY}")
    yield f"{server.address}/{REPOSITORY}"
    docker.remove_images_of(server.address)
    server.kill()


def test_run(docker: Docker, image: str) -> None:
    assert docker.run(image, "bash", "-c", SHOW) == EXPECTED
    assert docker.run(image, "/bin/sh", "-c", SHOW) == EXPECTED
    assert docker.run(image, "bash", "-c", f"bash -c '{SHOW}'") == EXPECTED


def test_exec(docker: Docker, image: str) -> None:
    """What is started beside the entrypoint has not passed through it."""
    container = run(["docker", "run", "--detach", "--rm", "--network", "none", image, "sleep", "300"]).strip()
    try:
        assert run(["docker", "exec", container, "bash", "-c", SHOW]) == EXPECTED
        assert run(["docker", "exec", container, "bash", "-euo", "pipefail", "-c", SHOW]) == EXPECTED
        # without bash there are the variables of the image alone
        assert run(["docker", "exec", container, "printenv", "TC_HOME"]) == "/opt/conda/lib\n"
    finally:
        run(["docker", "kill", container])
