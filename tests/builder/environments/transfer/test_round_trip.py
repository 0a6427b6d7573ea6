"""An environment goes from one data directory to another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from builder.environments.transfer.importing import Imported
from builder.errors import PolicyRefusal
from builder.service import BuilderService
from builder.work.claims import OURSELVES
from storage.digest import Digest
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import BuildFilter, BuildStatus, Cause, EnvironmentBuild
from storage.errors import EnvironmentTaken
from storage.events.outbox import Record
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from storage.repositories.manifest_document import read_manifest
from tests.support.builder.named import end_of, write_down
from tests.support.builder.services import open_service
from tests.support.builder.transfer.archives import change_document
from tests.support.builder.transfer.histories import (
    SETTINGS,
    History,
    Made,
    digest_of,
    exporting,
    importing,
    log_of,
    named_of,
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest) -> str | None:
    """The database of who imports; None for SQLite's own."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("migrated_postgres"))


async def test_with_bytes(tmp_path: Path, history: History, url: str | None) -> None:
    # each kind of database with one kind of archive
    name = "archive.tar" if url else "archive"
    made = history.put(tmp_path / name)
    async with open_service(tmp_path / "here", made.channel, url=url) as service:
        named = named_of(service)
        # no build is made: ids of builds here differ from those there
        await end_of(named, await named.create("team", "other", write_down(service, "two"), by="bob"))
        found = await importing(service).read(tmp_path / name, by="bob")
        builds = [each.build for each in found]
        assert [build.status for build in builds] == ["COMPLETED", "COMPLETED", "FAILED"]
        assert [each.origin.build for each in found] == [build.id for build in made.builds]
        assert {build.cause for build in builds} == {Cause.IMPORT}
        assert builds[2].status_info == made.builds[2].status_info
        assert [build.lock_key for build in builds] == [build.lock_key for build in made.builds]
        assert [build.ended for build in builds] == [build.ended for build in made.builds]
        assert [await digest_of(service, build) for build in builds[:2]] == made.digests
        environment = await named.store.environments.find("team", "Science")
        assert (environment.current_build, environment.description) == (builds[0].id, "For the analysis")
        await check_pulled(service, found, made)
        assert [await log_of(service, build) for build in builds] == made.logs
        assert all(state.ended for state in (await named.store.logs.find_all([build.id for build in builds])).values())
        assert b"tow" in made.logs[2]
        [layer] = await named.store.settings.list_layers("team", "Science")
        assert layer.document == SETTINGS
        with pytest.raises(EnvironmentTaken, match="already"):
            await importing(service).read(tmp_path / name, by="bob")
        [again] = await importing(service).read(tmp_path / name, by="bob", namespace="lab", name="old", which="current")
        assert await digest_of(service, again.build) == made.digests[0]
        # what was imported is exported as it was
        await exporting(service).write("team", "Science", tmp_path / "again")
        [whole, *_] = await importing(service).read(tmp_path / "again", by="bob", namespace="lab")
        assert await log_of(service, whole.build) == made.logs[0]
        assert await digest_of(service, whole.build) == made.digests[0]
        await check_at_once(service, tmp_path / name)


async def check_at_once(service: BuilderService, archive: Path) -> None:
    """Of several imports of one archive, one makes the environment, whole, and the others nothing."""
    work = [importing(service).read(archive, by="bob", namespace="race") for _ in range(4)]
    ended = await asyncio.gather(*work, return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == [*["EnvironmentTaken"] * 3, "list"], ended
    assert len(await named_of(service).store.builds.list_ids(Scope(), BuildFilter(namespace="race"))) == 3


async def check_pulled(service: BuilderService, found: list[Imported], made: Made) -> None:
    """What the tags mean, and whether all bytes of it are there."""
    named, builder = named_of(service), service.builder
    for tag, digest in (("latest", made.digests[0]), (str(found[1].build.id), made.digests[1])):
        ticket = await named.find_ticket("team/science", tag, OURSELVES)
        assert ticket is not None
        image = await ticket.wait(0)
        assert image is not None
        assert image.variants[0].digest == digest
        assert [each.media_type for each in image.variants] == [OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST]
        for variant in image.variants[1:]:
            manifest = await builder.catalog.images.find_manifest(variant.digest)
            assert manifest is not None
            for blob in read_manifest(variant.media_type, manifest.body).blobs:
                assert Digest.of(await builder.blobs.content(blob.digest)) == blob.digest


async def test_without_bytes_they_are_made_again(tmp_path: Path, history: History, url: str | None) -> None:
    made = history.put(tmp_path / "archive.tar", with_bytes=False)
    async with open_service(tmp_path / "here", made.channel, url=url) as service:
        named = named_of(service)
        found = await importing(service).read(tmp_path / "archive.tar", by="bob")
        assert [each.build.status for each in found] == ["QUEUED", "QUEUED", "FAILED"]
        for each in found[:2]:
            await named.submit(each.build)
        ended = [await end_of(named, each.build) for each in found]
        assert [build.status for build in ended] == ["COMPLETED", "COMPLETED", "FAILED"], ended
        assert [await digest_of(service, build) for build in ended[:2]] == made.digests
        assert (
            ended[0].status_info
            == f"imported from build {made.builds[0].id} of team/Science, and made again with the same digest"
        )
        environment = await named.store.environments.find("team", "Science")
        assert environment.current_build == ended[0].id
        # what was made here says how, and what failed there says that
        logs = [await log_of(service, build) for build in ended]
        assert logs[2] == made.logs[2]
        assert all(log and log != there for log, there in zip(logs[:2], made.logs, strict=False))


async def test_settings_are_set_as_far_as_they_may_be_here(tmp_path: Path, history: History) -> None:
    made = history.put(tmp_path / "archive")
    hostile = {
        "default_channels": ["https://evil.example/channel"], "quota": -1, "base_image": "evil", "\x1b[2J": 1,
        "kept_days": None, "required_packages": ["two"],
    }  # fmt: skip
    change_document(tmp_path / "archive", lambda it: it["environment"]["settings"].update(hostile))
    async with open_service(tmp_path / "here", made.channel) as service:
        told: list[str] = []
        recorded: list[list[str]] = []

        def record(names: Sequence[str]) -> Record[EnvironmentBuild]:
            async def nothing(_connection: AsyncConnection, _build: EnvironmentBuild) -> None:
                recorded.append(list(names))

            return nothing

        settings = named_of(service).store.settings
        for namespace, may_set in (("team", True), ("lab", False)):
            await importing(service).read(
                tmp_path / "archive", by="bob", namespace=namespace, may_set=may_set, record=record, tell=told.append
            )
        [layer] = await settings.list_layers("team", "Science")
        assert layer.document == {**SETTINGS, "required_packages": ["two"]}
        assert await settings.list_layers("lab", "Science") == []
        assert recorded == [["denied_packages", "kept_builds", "required_packages"], []]
        *each, last = told
        assert sorted(line.partition(": ")[2].partition(":")[0] for line in each) == sorted(
            ["default_channels[0]", "quota", "base_image", "'\\x1b[2J'"]
        )
        assert "denied_packages" in last
        # a rule that came with it holds for what is asked for from now on
        with pytest.raises(PolicyRefusal, match="bad"):
            await named_of(service).create("team", "Science", write_down(service, "bad"), by="bob")


async def test_another_base_is_named(tmp_path: Path, history: History) -> None:
    made = history.put(tmp_path / "archive")
    async with open_service(tmp_path / "here", made.channel, user=1000) as service:
        named = named_of(service)
        [found] = await importing(service).read(tmp_path / "archive", by="bob", which="current", rebuild=True)
        await named.submit(found.build)
        ended = await end_of(named, found.build)
        assert ended.status == BuildStatus.COMPLETED
        assert ended.status_info is not None
        assert "another version of condery, or one with other settings, had made it (user)" in ended.status_info
