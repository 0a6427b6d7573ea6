"""The files about an image: its provenance, and the report of its build."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.artifact import IMAGE_FILES, PROVENANCE, REPORT, Artifact, make_artifact_key
from builder.artifacts.image_file import WRITERS, record_image_file
from builder.artifacts.made_image import ImageManifest, MadeImage
from builder.artifacts.provenance import write_provenance
from builder.errors import UnknownArtifact
from builder.image.report import BuildReport
from builder.service import BuilderService
from storage.database import tables
from storage.digest import Digest
from storage.errors import FragmentsGone
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.builder.locks import LOCK
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service

BOTH = "conda-store-dynamic/tool"
PLATFORMS = ("linux-64", "linux-s390x")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[BuilderService]:
    packages = [Package("words", noarch="generic", files={"share/words": b"words"})]
    packages += [
        Package("tool", subdir=platform, depends=["words"], files={"bin/tool": b"tool", "share/words": b"tool's"})
        for platform in PLATFORMS
    ]
    channel = await make_channel(tmp_path / "channel", packages)
    async with open_service(tmp_path / "data", channel, platforms=PLATFORMS) as opened:
        yield opened


async def get(service: BuilderService, name: str) -> tuple[Artifact, Any]:
    artifact = await (await service.demand.artifact(BOTH, "latest", name)).wait(None)
    assert artifact
    return artifact, json.loads(await service.builder.blobs.content(artifact.digest))


async def test_provenance_names_every_manifest_and_every_package(service: BuilderService) -> None:
    artifact, statement = await get(service, PROVENANCE)
    assert artifact.media_type == "application/vnd.in-toto+json"
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    image = await (await service.demand.image(BOTH, "latest")).wait(0)
    assert image
    subjects = {each["name"]: each for each in statement["subject"]}
    assert list(subjects) == ["docker/linux-64", "docker/linux-s390x", "index", "linux-64", "linux-s390x"]
    assert [f"sha256:{subjects[name]['digest']['sha256']}" for name in ("index", "linux-64", "docker/linux-64")] == [
        each.digest for each in image.variants
    ]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["matchSpecs"] == ["tool"]
    assert definition["internalParameters"] == {"lock": f"lock-{image.lock_key}"}
    found = {each["downloadLocation"].rpartition("/")[2]: each for each in definition["resolvedDependencies"]}
    assert len(definition["resolvedDependencies"]) == 3
    words = found["words-1.0-0.conda"]
    assert words["annotations"] == {"platforms": list(PLATFORMS)}
    assert words["uri"].startswith("pkg:conda/words@1.0?build=0&channel=file:///")
    lock = await service.builder.catalog.locks.find(image.lock_key)
    assert lock
    assert words["digest"]["sha256"] in {each["sha256"] for each in lock["packages"]["linux-64"]}


async def test_report_is_that_of_the_build(service: BuilderService) -> None:
    image = await (await service.demand.image(BOTH, "latest")).wait(None)
    artifact, report = await get(service, REPORT)
    assert image
    assert artifact.file_name == f"tool-{image.lock_key[:12]}.report.json"
    stored = await service.builder.catalog.images.find_newest_of_lock(image.lock_key)
    assert stored
    read = BuildReport.from_json(report)
    assert read == BuildReport.from_json(stored["report"])
    assert list(read.seconds) == ["solve", "download", "inspect", "layers", "image"]
    [overlap] = read.platforms["linux-64"].overlaps
    assert (overlap.path, overlap.losers) == ("share/words", ("words-1.0-0",))
    assert {name for layer in read.platforms["linux-s390x"].layers for name, _ in layer.packages} == {
        "tool-1.0-0",
        "words-1.0-0",
    }
    assert {each["digest"] for each in report["manifests"]} >= {each.digest for each in image.variants}


async def test_files_of_an_image_are_made_with_it_and_only_once(service: BuilderService) -> None:
    first, _ = await get(service, REPORT)
    again = await service.demand.artifact(BOTH, "latest", REPORT)
    assert await again.wait(0) == first
    assert not again.build_id


async def test_an_image_of_one_platform_alone(service: BuilderService) -> None:
    name = "conda-store-dynamic/platform.linux-s390x/tool"
    artifact = await (await service.demand.artifact(name, "latest", PROVENANCE)).wait(None)
    assert artifact
    statement = json.loads(await service.builder.blobs.content(artifact.digest))
    assert [each["name"] for each in statement["subject"]] == ["docker/linux-s390x", "linux-s390x"]


async def test_an_image_that_is_gone(service: BuilderService) -> None:
    await get(service, REPORT)
    builder = service.builder
    async with builder.blobs.database.writing() as connection:
        await connection.execute(tables.artifact.delete())
        keys = (await connection.execute(tables.image.select())).all()
        await connection.execute(tables.image.delete())
    with pytest.raises(FragmentsGone):
        await record_image_file(REPORT, keys[0].key, builder.catalog, builder.blobs)
    with pytest.raises(UnknownArtifact):
        await record_image_file("explicit.txt", keys[0].key, builder.catalog, builder.blobs)
    # whoever asks for it by the image's name has it made again
    _, report = await get(service, REPORT)
    assert report["lock"] == f"lock-{keys[0].lock_key}"


def test_provenance_has_the_base() -> None:
    digest = Digest.of(b"base")
    base = ("docker.io/library/debian:13", digest)
    manifests = (
        ImageManifest(Digest.of(b"d"), DOCKER_MANIFEST, 1, "linux-64"),
        ImageManifest(Digest.of(b"i"), OCI_INDEX, 1),
        ImageManifest(Digest.of(b"m"), OCI_MANIFEST, 1, "linux-64", base),
    )
    image = MadeImage("k" * 64, LOCK, manifests, {})
    found = json.loads(write_provenance(image))["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert found[0] == {
        "name": base[0],
        "digest": {"sha256": digest.hex},
        "annotations": {"base": True, "platforms": ["linux-64"]},
    }
    assert len(found) == 1 + len(LOCK.packages["linux-64"])
    assert write_provenance(image) == write_provenance(dataclasses.replace(image))


def test_every_file_of_an_image_has_a_writer() -> None:
    assert tuple(WRITERS) == IMAGE_FILES
    assert make_artifact_key("a", REPORT) != make_artifact_key("a", PROVENANCE) != make_artifact_key("b", PROVENANCE)
