"""A denied package: other versions are pulled in its place, and clients show why there are none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.builder.packages import Package, write_channel
from tests.support.programs import Client, ClientError
from tests.support.server import Server

ROOT = "conda-store-dynamic"


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("ruled")
    write_channel(directory / "channel", [Package("lib", "1.0"), Package("lib", "2.0")])
    flags = ("--channels", (directory / "channel").as_uri(), "--base", "scratch", "--denied-packages")
    server = Server((*flags, "lib >=2 # CVE-2026-1"), directory / "data", directory / "log")
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("program", ["docker", "podman", "skopeo"])
def test_the_reason_is_shown(request: pytest.FixtureRequest, program: str, ruled: Server) -> None:
    client: Client = request.getfixturevalue(program)
    client.pull(f"{ruled.address}/{ROOT}/lib:latest")
    with pytest.raises(ClientError) as caught:
        client.pull(f"{ruled.address}/{ROOT}/lib.eq.2.0:latest")
    assert "2.0 is denied by the setting denied_packages: lib >=2: CVE-2026-1; 1.0 may be taken" in str(caught.value)
