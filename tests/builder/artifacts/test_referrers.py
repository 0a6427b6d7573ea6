"""The files of an image as artifacts that refer to it: made when they are asked for, all of them, and once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from builder.artifacts.artifact import ARCHIVE, ARTIFACTS
from builder.artifacts.referrers import TYPES
from builder.image.finished import FinishedImage
from builder.locks.formats import CONDA_LOCK, PYLOCK
from builder.locks.lock import Lock
from builder.service import BuilderService
from storage.catalog.attachments import Attachments
from storage.database import tables
from storage.digest import Digest
from storage.errors import QuotaExceeded
from storage.repositories.manifest_document import read_manifest
from storage.repositories.rows import Push
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service

NAME = "conda-store-dynamic/tool"
ROOT = "conda-store-dynamic"
PLATFORMS = ("linux-64", "linux-s390x")
TEXTS = len(TYPES) - 2
"""All but the archive, which is not always there, and pylock.toml, which environments without PyPI packages lack."""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[BuilderService]:
    packages = [Package("tool", subdir=platform, files={"bin/tool": b"tool"}) for platform in PLATFORMS]
    channel = await make_channel(tmp_path / "channel", packages)
    async with open_service(tmp_path / "data", channel, platforms=PLATFORMS) as opened:
        yield opened


async def build(service: BuilderService) -> FinishedImage:
    image = await (await service.demand.image(NAME, "latest")).wait(None)
    assert image
    return image


async def list_referrers(service: BuilderService, subject: Digest, repository: str = ROOT) -> list[dict[str, Any]]:
    """The manifests' documents, sorted by type and platform."""
    row, body = tables.repository_manifest, tables.manifest
    query = (
        select(row.c.media_type, body.c.body)
        .join(body, body.c.digest == row.c.digest)
        .where(row.c.repository == repository, row.c.subject == subject)
    )
    async with service.builder.blobs.database.reading() as connection:
        rows = (await connection.execute(query)).all()
    for each in rows:
        assert read_manifest(each.media_type, each.body).subject
    documents = [json.loads(each.body) for each in rows]
    return sorted(
        documents, key=lambda each: (each["artifactType"], each["annotations"].get("io.condery.platform", ""))
    )


async def content_of(service: BuilderService, document: dict[str, Any]) -> bytes:
    [layer] = document["layers"]
    assert (layer["mediaType"], layer["annotations"]) == (
        document["artifactType"],
        {"org.opencontainers.image.title": document["annotations"]["org.opencontainers.image.title"]},
    )
    content = await service.builder.blobs.content(Digest.parse(layer["digest"]))
    assert len(content) == layer["size"]
    return content


async def file_of(service: BuilderService, name: str) -> bytes:
    artifact = await (await service.demand.artifact(NAME, "latest", name)).wait(None)
    assert artifact
    return await service.builder.blobs.content(artifact.digest)


async def test_every_file_refers_to_the_index(service: BuilderService) -> None:
    image = await build(service)
    index = image.variants[0]
    assert await list_referrers(service, index.digest) == []
    await service.referrers.attach(ROOT, index.digest, 30)
    documents = await list_referrers(service, index.digest)
    # explicit.txt and environment.yaml for each platform, and no archive
    assert len(documents) == TEXTS + 2
    for document in documents:
        assert document["subject"] == index.to_json()
        name = document["annotations"]["org.opencontainers.image.title"]
        assert document["artifactType"] == TYPES[name]
        content = await content_of(service, document)
        if document["annotations"].get("io.condery.platform", "linux-64") == "linux-64":
            assert content == await file_of(service, name)
        else:
            assert b"linux-s390x" in content
    [provenance] = [each for each in documents if each["artifactType"] == "application/vnd.in-toto+json"]
    assert provenance["annotations"]["in-toto.io/predicate-type"] == "https://slsa.dev/provenance/v1"


async def test_a_platform_has_its_own(service: BuilderService) -> None:
    await build(service)
    async with service.builder.blobs.database.reading() as connection:
        made = (await connection.execute(select(tables.image_manifest.c.digest))).scalars().all()
        bodies = (await connection.execute(select(tables.manifest))).all()
    configs = {row.digest: json.loads(row.body).get("config", {}).get("digest") for row in bodies}
    seen = set()
    for digest in made:
        await service.referrers.attach(ROOT, Digest(digest), 30)
        documents = await list_referrers(service, Digest(digest))
        platforms = {each["annotations"].get("io.condery.platform", "") for each in documents} - {""}
        assert platforms == set(PLATFORMS) if configs[digest] is None else len(platforms) == 1
        assert len(documents) == TEXTS + (2 if configs[digest] is None else 0)
        seen |= platforms
    assert seen == set(PLATFORMS)
    assert len(made) == 5


async def test_asking_again_makes_nothing(service: BuilderService, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await build(service)
    index = image.variants[0].digest
    puts: list[int] = []
    put = Attachments.put

    async def count(self: Attachments, repository: str, subject: Digest, pushes: list[Push]) -> bool:
        puts.append(len(pushes))
        return await put(self, repository, subject, pushes)

    monkeypatch.setattr(Attachments, "put", count)
    await asyncio.gather(*(service.referrers.attach(ROOT, index, 30) for _ in range(10)))
    await service.referrers.attach(ROOT, index, 30)
    assert puts == [TEXTS + 2]


async def test_what_is_no_image_is_left_alone(service: BuilderService) -> None:
    image = await build(service)
    await service.referrers.attach(ROOT, Digest.of(b"unknown"), 30)
    await service.referrers.attach("team/app", image.variants[0].digest, 30)
    await service.referrers.attach(ROOT, image.variants[0].digest, 30)
    [first, *_] = await list_referrers(service, image.variants[0].digest)
    body = json.dumps(first, separators=(",", ":")).encode()
    before = await count_manifests(service)
    await service.referrers.attach(ROOT, Digest.of(body), 30)
    assert await count_manifests(service) == before


async def count_manifests(service: BuilderService) -> int:
    async with service.builder.blobs.database.reading() as connection:
        return len((await connection.execute(select(tables.repository_manifest))).all())


async def test_the_archive_refers_once_it_is_there(service: BuilderService) -> None:
    image = await build(service)
    index = image.variants[0].digest
    await service.referrers.attach(ROOT, index, 30)
    archive = await file_of(service, ARCHIVE)
    await service.referrers.attach(ROOT, index, 30)
    documents = await list_referrers(service, index)
    [packed] = [each for each in documents if each["artifactType"] == TYPES[ARCHIVE]]
    assert await content_of(service, packed) == archive
    assert packed["annotations"]["io.condery.platform"] == "linux-64"
    assert len(documents) == TEXTS + 3


async def test_a_repository_that_has_the_image_gets_them_too(service: BuilderService) -> None:
    """As the repository of a named environment has it: rows of its own for the same manifests and blobs."""
    image = await build(service)
    row, link, use, child = (
        tables.repository_manifest,
        tables.link,
        tables.manifest_blob,
        tables.manifest_child,
    )
    async with service.builder.blobs.database.writing() as connection:
        await connection.execute(tables.repository.insert().values(name="team/analysis", created=1.0))
        for table in (link, row, use, child):
            copied = [
                {**each._mapping, "repository": "team/analysis"} for each in await connection.execute(select(table))
            ]
            await connection.execute(table.insert(), copied)
    index = image.variants[0].digest
    await service.referrers.attach("team/analysis", index, 30)
    assert len(await list_referrers(service, index, "team/analysis")) == TEXTS + 2
    assert await list_referrers(service, index) == []


async def test_a_file_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("tool", files={"bin/tool": b"tool"})])
    async with open_service(tmp_path / "data", channel) as service:
        image = await build(service)
        locks = service.builder.catalog.locks
        document = await locks.find(image.lock_key)
        assert document
        document["packages"]["linux-64"][0]["md5"] = None
        lock = Lock.from_json(document)
        async with service.builder.blobs.database.writing() as connection:
            await connection.execute(tables.lock.update().values(document=json.dumps(lock.to_json())))
        for _ in range(2):
            await service.referrers.attach(ROOT, image.variants[0].digest, 30)
            found = {each["artifactType"] for each in await list_referrers(service, image.variants[0].digest)}
            assert found == set(TYPES.values()) - {
                TYPES[each] for each in (ARCHIVE, CONDA_LOCK.file_name, PYLOCK.file_name)
            }


async def test_a_refusal_is_remembered_for_a_while(service: BuilderService, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await build(service)
    asked = 0

    async def refuse(*_: Any) -> bool:
        nonlocal asked
        asked += 1
        raise QuotaExceeded("all on-demand images together", "bytes", 1, 2, "raise it")

    monkeypatch.setattr(Attachments, "put", refuse)
    for _ in range(3):
        await service.referrers.attach(ROOT, image.variants[0].digest, 30)
    assert asked == 1


async def test_files_that_take_long_are_made_without_who_asked(service: BuilderService) -> None:
    image = await build(service)
    index = image.variants[0].digest
    await service.referrers.attach(ROOT, index, 0)
    await service.referrers.attach(ROOT, index, 30)
    assert len(await list_referrers(service, index)) == TEXTS + 2


async def test_an_image_made_anew_gets_them_anew(service: BuilderService) -> None:
    image = await build(service)
    index = image.variants[0].digest
    await service.referrers.attach(ROOT, index, 30)
    async with service.builder.blobs.database.writing() as connection:
        await connection.execute(tables.image.delete())
        await connection.execute(tables.repository_manifest.delete())
    await service.referrers.attach(ROOT, index, 30)
    assert await list_referrers(service, index) == []
    assert (await build(service)).variants[0].digest == index
    await service.referrers.attach(ROOT, index, 30)
    assert len(await list_referrers(service, index)) == TEXTS + 2


def test_every_file_has_a_type() -> None:
    assert set(TYPES) == set(ARTIFACTS)
    assert len(set(TYPES.values())) == len(TYPES)
