"""An environment goes from one data directory to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.environments.transfer.importing import Imported
from builder.service import BuilderService
from builder.work.claims import OURSELVES
from storage.digest import Digest
from storage.environments.vocabulary import BuildStatus, Cause
from storage.errors import EnvironmentTaken
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from storage.repositories.manifest_document import read_manifest
from tests.support.builder.named import end_of, write_down
from tests.support.builder.services import open_service
from tests.support.builder.transfer.histories import Made, digest_of, importing, make_history, named_of


@pytest.mark.parametrize("name", ["archive.tar", "archive"])
async def test_with_bytes(tmp_path: Path, name: str) -> None:
    made = await make_history(tmp_path, tmp_path / name, with_bytes=True)
    async with open_service(tmp_path / "here", made.channel) as service:
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
        with pytest.raises(EnvironmentTaken, match="already"):
            await importing(service).read(tmp_path / name, by="bob")
        [again] = await importing(service).read(tmp_path / name, by="bob", namespace="lab", name="old", which="current")
        assert await digest_of(service, again.build) == made.digests[0]


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


async def test_without_bytes_they_are_made_again(tmp_path: Path) -> None:
    made = await make_history(tmp_path, tmp_path / "archive.tar", with_bytes=False)
    async with open_service(tmp_path / "here", made.channel) as service:
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


async def test_another_base_is_named(tmp_path: Path) -> None:
    made = await make_history(tmp_path, tmp_path / "archive", with_bytes=True)
    async with open_service(tmp_path / "here", made.channel, user=1000) as service:
        named = named_of(service)
        [found] = await importing(service).read(tmp_path / "archive", by="bob", which="current", rebuild=True)
        await named.submit(found.build)
        ended = await end_of(named, found.build)
        assert ended.status == BuildStatus.COMPLETED
        assert ended.status_info is not None
        assert "another version of condery, or one with other settings, had made it (user)" in ended.status_info
