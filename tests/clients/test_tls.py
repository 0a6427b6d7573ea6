"""Clients that verify the server's certificate against an authority they were given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import layouts
from tests.support.programs import ClientError, Podman, Skopeo, run
from tests.support.server import Server
from tests.support.servers.certificates import Authority

pytestmark = pytest.mark.clients

AUTHORITY = Authority()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("secured")
    pair = AUTHORITY.issue()
    (directory / "tls.crt").write_bytes(pair.certificate)
    (directory / "tls.key").write_bytes(pair.key)
    tls = ("--tls-certificate", str(directory / "tls.crt"), "--tls-key", str(directory / "tls.key"))
    server = Server(("--base", "scratch", "--workers", "1", *tls), directory / "data", directory / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as /etc/containers/certs.d and /etc/docker/certs.d have one for each registry."""
    directory = tmp_path_factory.mktemp("certs")
    AUTHORITY.write(directory / "ca.crt")
    return directory


def test_skopeo_and_podman(secured: Server, trust: Path, skopeo: Skopeo, podman: Podman, tmp_path: Path) -> None:
    index = layouts.write_layout(tmp_path / "layout", "v1", {"amd64": [layouts.tar({"hello": b"x" * 3_000_000})]})
    reference = f"{secured.address}/tls/image:v1"
    copy = ["skopeo", "--insecure-policy", "copy", "--all"]
    with pytest.raises(ClientError, match=r"x509|certificate"):
        run([*copy, f"oci:{tmp_path}/layout:v1", f"docker://{reference}"])
    run([*copy, "--dest-cert-dir", trust, f"oci:{tmp_path}/layout:v1", f"docker://{reference}"])
    run([*copy, "--src-cert-dir", trust, f"docker://{reference}", f"oci:{tmp_path}/back:v1"])
    assert json.loads((tmp_path / "back" / "index.json").read_text())["manifests"][0]["digest"] == index["digest"]
    with pytest.raises(ClientError, match=r"x509|certificate"):
        run(podman.command("pull", "--quiet", reference))
    run(podman.command("pull", "--quiet", "--cert-dir", str(trust), reference))
    run(podman.command("push", "--quiet", "--cert-dir", str(trust), reference, f"{secured.address}/tls/again:v1"))
