"""The files of an image, found and fetched with oras, and with curl as the distribution specification has it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import ClientError, OrasCommand, need, run
from tests.support.server import Server

pytestmark = pytest.mark.clients

NAME = "conda-store-dynamic/tzdata/ca-certificates"
TYPES = {
    "conda-lock.yml": "application/vnd.conda.lock.v1+yaml",
    "pixi.lock": "application/vnd.pixi.lock.v1+yaml",
    "explicit.txt": "application/vnd.conda.explicit.v1",
    "environment.yaml": "application/vnd.conda.environment.v1+yaml",
    "sbom.spdx.json": "application/spdx+json",
    "sbom.cdx.json": "application/vnd.cyclonedx+json",
    "provenance.json": "application/vnd.in-toto+json",
    "report.json": "application/vnd.condery.report.v1+json",
}


def fetch(server: Server, repository: str, reference: str) -> str:
    """The text of a manifest, the index first."""
    accept = "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    url = f"{server.url}/v2/{repository}/manifests/{reference}"
    return run(["curl", "--silent", "--show-error", "--fail", "--header", accept, url])


def discover(oras: OrasCommand, reference: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(oras("discover", "--format", "json", *options, reference))["referrers"]
    return [each for each in found if each["artifactType"] != "application/vnd.conda.pack.v1.tar+gzip"]


def test_oras_discovers_and_pulls_the_files_of_an_image(oras_command: OrasCommand, served: Server) -> None:
    reference = f"{served.address}/{NAME}:latest"
    found = {each["artifactType"]: each for each in discover(oras_command, reference)}
    assert found.keys() == set(TYPES.values())
    for name, artifact_type in TYPES.items():
        [only] = discover(oras_command, reference, "--artifact-type", artifact_type)
        assert only["digest"] == found[artifact_type]["digest"]
        assert only["annotations"]["org.opencontainers.image.title"] == name
        oras_command("pull", "--output", "files", f"{served.address}/{NAME}@{only['digest']}")
        pulled = (oras_command.directory / "files" / name).read_bytes()
        served_file = run(["curl", "--silent", "--show-error", "--fail", f"{served.url}/files/{NAME}/latest/{name}"])
        assert pulled.decode() == served_file
    lock = yaml.safe_load((oras_command.directory / "files/conda-lock.yml").read_text())
    assert {each["name"] for each in lock["package"]} >= {"tzdata", "ca-certificates"}
    provenance = json.loads((oras_command.directory / "files/provenance.json").read_text())
    [entry] = json.loads(fetch(served, NAME, "latest"))["manifests"]
    annotations = json.loads(fetch(served, NAME, entry["digest"]))["annotations"]
    base = provenance["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert base["name"] == annotations["org.opencontainers.image.base.name"]
    assert f"sha256:{base['digest']['sha256']}" == annotations["org.opencontainers.image.base.digest"]
    assert entry["digest"] in {f"sha256:{each['digest']['sha256']}" for each in provenance["subject"]}


def test_oras_finds_those_of_a_platform(oras_command: OrasCommand, served: Server) -> None:
    reference = f"{served.address}/{NAME}:latest"
    found = discover(oras_command, reference, "--platform", "linux/amd64")
    assert {each["artifactType"] for each in found} == set(TYPES.values())
    index = json.loads(fetch(served, NAME, "latest"))
    [entry] = index["manifests"]
    document = json.loads(fetch(served, NAME, found[0]["digest"]))
    assert document["subject"]["digest"] == entry["digest"]
    assert document["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
        "size": 2,
    }


def test_the_archive_is_there_once_somebody_has_had_it_made(
    oras_command: OrasCommand, served: Server, tmp_path: Path
) -> None:
    need("curl")
    archive = tmp_path / "archive.tar.gz"
    run(["curl", "--silent", "--fail", "--retry", "20", "--output", archive,
         f"{served.url}/files/{NAME}/latest/archive.tar.gz"])  # fmt: skip
    reference = f"{served.address}/{NAME}:latest"
    wanted = ("--artifact-type", "application/vnd.conda.pack.v1.tar+gzip")
    [found] = json.loads(oras_command("discover", "--format", "json", *wanted, reference))["referrers"]
    oras_command("pull", "--output", "archive", f"{served.address}/{NAME}@{found['digest']}")
    assert (oras_command.directory / "archive/archive.tar.gz").read_bytes() == archive.read_bytes()


def test_oras_copies_an_image_with_its_files(oras_command: OrasCommand, served: Server, empty: Server) -> None:
    source, copy = f"{served.address}/{NAME}:latest", f"{empty.address}/copied/image:v1"
    discover(oras_command, source)
    oras_command.run("copy", "--recursive", "--from-plain-http", "--to-plain-http", source, copy)
    assert {each["artifactType"] for each in discover(oras_command, copy)} == set(TYPES.values())
    assert fetch(empty, "copied/image", "v1") == fetch(served, NAME, "latest")


def test_what_is_no_image_has_none(oras_command: OrasCommand, served: Server) -> None:
    unknown = f"sha256:{'0' * 64}"
    text = run(["curl", "--silent", "--fail", f"{served.url}/v2/{NAME}/referrers/{unknown}"])
    assert json.loads(text)["manifests"] == []
    with pytest.raises(ClientError):
        oras_command("discover", f"{served.address}/{NAME}@{unknown}")
