"""Real clients pull other registries' images through condery, by name and as the mirror that they are set up with."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import ClientError, Containerd, Docker, Podman, Skopeo, run
from tests.support.registry.stored import read_log
from tests.support.server import Server, StartServer
from tests.support.servers import distribution

pytestmark = pytest.mark.clients

SMALL = "conda-store-dynamic/tzdata:latest"
APP = "team/app:v1"


def written(address: str) -> str:
    """A registry as the names of its copies have it."""
    return f"mirror/{address.replace(':', '_')}"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, served: Server, skopeo: Skopeo) -> Iterator[tuple[str, int]]:
    """The reference registry with an image in it: its host:port, and its process."""
    with distribution.serving(distribution.needed_registry(), tmp_path_factory.mktemp("reference")) as (
        port,
        process,
    ):
        address = f"127.0.0.1:{port}"
        skopeo.copy(f"{served.address}/{SMALL}", f"docker://{address}/{APP}", "--all", "--dest-tls-verify=false")
        yield address, process


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, served: Server, registry: tuple[str, int]) -> Iterator[Server]:
    """A server that mirrors the reference registry, and the server of on-demand images."""
    directory = tmp_path_factory.mktemp("mirror")
    hosts = f"{registry[0]},{served.address}"
    flags = ("--base", "scratch", "--workers", "1", "--mirrors", hosts, "--mirror-internal-hosts", hosts)
    server = Server((*flags, "--mirror-fresh-for", "0", "--processes", "2"), directory / "data", directory / "log")
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("client", ["docker", "containerd", "podman", "skopeo"])
@pytest.mark.parametrize("of", ["registry", "condery"])
def test_clients_pull_by_the_name_of_the_copy(
    client: str, of: str, request: pytest.FixtureRequest, mirror: Server, served: Server, registry: tuple[str, int]
) -> None:
    name = f"{written(registry[0])}/{APP}" if of == "registry" else f"{written(served.address)}/{SMALL}"
    request.getfixturevalue(client).pull(f"{mirror.address}/{name}")


def test_the_copy_is_the_image(
    skopeo: Skopeo, mirror: Server, served: Server, registry: tuple[str, int], tmp_path: Path
) -> None:
    copy = f"{mirror.address}/{written(registry[0])}/{APP}"
    skopeo.copy(copy, f"oci:{tmp_path / 'copy'}:copied", "--all")
    skopeo.copy(f"{served.address}/{SMALL}", f"oci:{tmp_path / 'image'}:copied", "--all")
    found, expected = (
        sorted(path.name for path in (tmp_path / each / "blobs").rglob("*")) for each in ("copy", "image")
    )
    assert found == expected
    assert skopeo.inspect(copy)["RepoTags"] == ["v1"]


def test_docker_reads_why_there_is_nothing(docker: Docker, mirror: Server, registry: tuple[str, int]) -> None:
    with pytest.raises(ClientError, match=r"quay.io is not mirrored here"):
        docker.pull(f"{mirror.address}/mirror/quay.io/a/b:latest")
    with pytest.raises(ClientError, match=r"has no manifest other in team/app"):
        docker.pull(f"{mirror.address}/{written(registry[0])}/team/app:other")


def test_nobody_pushes_to_a_copy(skopeo: Skopeo, mirror: Server, registry: tuple[str, int]) -> None:
    name = f"{mirror.address}/{written(registry[0])}/team/app"
    with pytest.raises(ClientError, match="push or delete there"):
        skopeo.copy(f"{name}:v1", f"docker://{name}:v2", "--dest-tls-verify=false")


def test_containerd_is_set_up_with_it_as_its_mirror(
    containerd: Containerd, mirror: Server, registry: tuple[str, int], tmp_path: Path
) -> None:
    """As docs/mirrors.md says."""
    address, _ = registry
    hosts = tmp_path / address / "hosts.toml"
    hosts.parent.mkdir()
    hosts.write_text(
        f'server = "http://127.0.0.1:1"\n\n[host."{mirror.url}/v2/{written(address)}"]\n'
        'capabilities = ["pull", "resolve"]\noverride_path = true\n'
    )
    run(containerd.command("images", "pull", "--hosts-dir", str(tmp_path), f"{address}/{APP}"))


def test_podman_is_set_up_with_it_as_its_mirror(
    podman: Podman, mirror: Server, registry: tuple[str, int], tmp_path: Path
) -> None:
    """As docs/mirrors.md says."""
    address, _ = registry
    config = tmp_path / "registries.conf"
    config.write_text(
        f'[[registry]]\nprefix = "{address}"\nlocation = "127.0.0.1:1"\ninsecure = true\n\n'
        f'[[registry.mirror]]\nlocation = "{mirror.address}/{written(address)}"\ninsecure = true\n'
    )
    run(["env", f"CONTAINERS_REGISTRIES_CONF={config}", *podman.command("pull", "--quiet", f"{address}/{APP}")])


def test_docker_pulls_though_the_registry_is_dead(
    docker: Docker, skopeo: Skopeo, start_server: StartServer, served: Server, tmp_path: Path
) -> None:
    with distribution.serving(distribution.needed_registry(), tmp_path) as (port, process):
        address = f"127.0.0.1:{port}"
        skopeo.copy(f"{served.address}/{SMALL}", f"docker://{address}/{APP}", "--all", "--dest-tls-verify=false")
        flags = ("--base", "scratch", "--workers", "1", "--mirrors", address, "--mirror-internal-hosts", address)
        server = start_server(*flags, "--mirror-fresh-for", "0")
        reference = f"{server.address}/{written(address)}/{APP}"
        docker.pull(reference)
        docker.remove_images_of(server.address)
        os.kill(process, signal.SIGKILL)
    docker.pull(reference)
    docker.remove_images_of(server.address)
    assert "cannot be reached" in read_log(server, "stale copy served")[0]["reason"]
