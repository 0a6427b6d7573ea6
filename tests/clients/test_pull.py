"""What a person does with each client: pull an image by name, run what is in it, and read why a name is wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.digest import Digest
from tests.support.programs import ClientError, Containerd, Docker, Oras, Podman, PythonDocker, Skopeo
from tests.support.server import Server

pytestmark = pytest.mark.clients

SCIPY = "conda-store-dynamic/python/numpy/scipy.gt.1.0:latest"
FLASK = "conda-store-dynamic/python/flask/ca-certificates:latest"
SMALL = "conda-store-dynamic/tzdata:latest"
MISSPELT = "conda-store-dynamic/python/nunpy:latest"

DETERMINANT = "import numpy, scipy.linalg; print(round(scipy.linalg.det(numpy.array([[2.0, 1.0], [1.0, 3.0]])), 6))"


@pytest.fixture(scope="module")
def pulled(docker: Docker, served: Server) -> Iterator[Docker]:
    """docker, with both images pulled from the server."""
    docker.pull(f"{served.address}/{SCIPY}")
    docker.pull(f"{served.address}/{FLASK}")
    yield docker
    docker.remove_images_of(served.address)


def test_docker_runs_scipy(pulled: Docker, served: Server) -> None:
    assert pulled.run(f"{served.address}/{SCIPY}", "python", "-c", DETERMINANT) == "5.0\n"


def test_docker_runs_an_entry_point(pulled: Docker, served: Server) -> None:
    said = pulled.run(f"{served.address}/{FLASK}", "flask", "--version")
    assert said.startswith("Python 3.")
    assert "\nFlask " in said


def test_the_entrypoint_runs_activation_scripts(pulled: Docker, served: Server) -> None:
    # the variable is in the image's Env as well, which leaves the script nothing to do unless it is emptied
    said = pulled.run(
        f"{served.address}/{FLASK}",
        "python", "-c", "import os; print(os.environ['SSL_CERT_FILE'], os.environ['_CONDA_SET_SSL_CERT_FILE'])",
        options=["--env", "SSL_CERT_FILE="],
    )  # fmt: skip
    assert said == "/opt/conda/ssl/cacert.pem 1\n"


def test_docker_runs_it_as_a_user_without_a_name(pulled: Docker, served: Server) -> None:
    said = pulled.run(
        f"{served.address}/{SCIPY}", "python", "-c", f"import os; print(os.getuid(), os.getgid()); {DETERMINANT}",
        options=["--user", "1000:1000"],
    )  # fmt: skip
    assert said == "1000 1000\n5.0\n"


def test_docker_runs_it_on_a_read_only_root(pulled: Docker, served: Server) -> None:
    said = pulled.run(f"{served.address}/{SCIPY}", "python", "-c", DETERMINANT, options=["--read-only"])
    assert said == "5.0\n"


def test_docker_pulls_a_lock_by_its_tag(pulled: Docker, served: Server) -> None:
    [image] = json.loads(pulled.inspect(f"{served.address}/{SCIPY}"))
    lock = image["Config"]["Labels"]["io.condery.lock"]
    locked = f"{served.address}/{SCIPY.removesuffix('latest')}lock-{lock[:12]}"
    pulled.pull(locked)
    [again] = json.loads(pulled.inspect(locked))
    assert again["Id"] == image["Id"]


def test_containerd_pulls_and_runs(containerd: Containerd, served: Server) -> None:
    reference = f"{served.address}/{SCIPY}"
    containerd.pull(reference)
    assert containerd.run(reference, "python", "-c", DETERMINANT) == "5.0\n"


def test_podman_pulls_and_runs(podman: Podman, served: Server) -> None:
    reference = f"{served.address}/{SCIPY}"
    podman.pull(reference)
    assert podman.run(reference, "python", "-c", DETERMINANT) == "5.0\n"


def test_skopeo_copies_and_inspects(skopeo: Skopeo, served: Server, tmp_path: Path) -> None:
    reference = f"{served.address}/{SMALL}"
    skopeo.copy(reference, f"dir:{tmp_path / 'plain'}")
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_bytes())
    for blob in (manifest["config"], *manifest["layers"]):
        content = (tmp_path / "plain" / blob["digest"].removeprefix("sha256:")).read_bytes()
        assert (Digest.of(content), len(content)) == (blob["digest"], blob["size"])
    skopeo.copy(reference, f"oci:{tmp_path / 'layout'}:copied", "--all")
    layout = json.loads((tmp_path / "layout" / "index.json").read_bytes())
    seen = skopeo.inspect(reference)
    # the whole index, unchanged
    assert [entry["digest"] for entry in layout["manifests"]] == [seen["Digest"]]
    assert seen["Name"] == reference.removesuffix(":latest")
    assert f"lock-{seen['Labels']['io.condery.lock'][:12]}" in seen["RepoTags"]


def test_oras_pulls_manifest_and_blobs(oras: Oras, served: Server) -> None:
    blobs = oras.blobs(f"{served.address}/{SMALL}")
    assert len(blobs) >= 3
    for digest, content in blobs.items():
        assert Digest.of(content) == digest


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_python_docker_pulls_the_docker_manifest(python_docker: PythonDocker, oras: Oras, served: Server) -> None:
    image = python_docker.image(f"{served.address}/{SMALL}")
    assert image.layers[0].config["Env"][0].startswith("PATH=/opt/conda/bin:")
    blobs = oras.blobs(f"{served.address}/{SMALL}")
    for layer in image.layers:
        assert hashlib.sha256(layer.content).hexdigest() == layer.checksum
    unpacked = {layer.content for layer in image.layers}
    assert unpacked == {gzip.decompress(blob) for blob in blobs.values() if not blob.startswith(b"{")}


@pytest.mark.parametrize("client", ["docker", "podman", "skopeo"])
def test_a_misspelt_package_is_told_with_what_was_meant(
    client: str, request: pytest.FixtureRequest, served: Server
) -> None:
    with pytest.raises(ClientError, match=r"no package nunpy .*did you mean numpy\?"):
        request.getfixturevalue(client).pull(f"{served.address}/{MISSPELT}")


def test_containerd_says_that_a_misspelt_package_is_not_there(containerd: Containerd, served: Server) -> None:
    with pytest.raises(ClientError, match="not found"):
        containerd.pull(f"{served.address}/{MISSPELT}")
