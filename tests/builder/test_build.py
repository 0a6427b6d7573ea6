"""Whole builds over small channels: determinism, what is stored anew, and every failure that leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from builder.errors import BaseUnavailable, BuildFailed, PackageRefused, PathConflict, UnknownPackage
from builder.image.documents import write_beginning
from builder.progress import Event
from builder.queue.job import Job
from builder.queue.settings_key import make_settings_key
from builder.service import BuilderService
from storage.database import tables
from storage.digest import Digest
from storage.disk.files import TEMPORARY
from storage.errors import StorageFull
from storage.events.changes import Changes
from storage.objects.s3 import S3Objects
from storage.oci import OCI_INDEX
from storage.repositories.pushed import Repositories
from tests.support.builder.packages import PLACEHOLDER, File, Package
from tests.support.builder.services import make_channel, manifest_of, open_service, spec_of
from tests.support.small_disk import small_disk
from tests.support.storage.s3_buckets import location
from tests.support.storage.stores import count_builds

PYTHON = Package(
    name="python",
    version="3.12.1",
    files={"bin/python3.12": File(f"#!{PLACEHOLDER}\n".encode(), mode=0o775, placeholder="text")},
    python_site_packages_path="lib/python3.12/site-packages",
)
TOOL = Package(
    name="tool",
    noarch="python",
    depends=["python >=3.10"],
    entry_points=["tool = tool.cli:main"],
    files={"site-packages/tool/cli.py": b"def main(): print('tool')\n"},
)
BIG = Package(name="big", files={f"share/big/{number}": os.urandom(200_000) for number in range(10)})
ACTIVE = Package(
    name="active",
    files={
        "etc/conda/activate.d/active.sh": b"export ACTIVE=1\n",
        "etc/conda/env_vars.d/active.json": b'{"ACTIVE_VARIABLE": "yes"}',
        "bin/.active-post-link.sh": b"exit 1\n",
    },
)
PACKAGES = [PYTHON, TOOL, BIG, ACTIVE]


def stored_files(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): path.stat().st_size
        for folder in ("blobs", "fragments")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


async def joins(service: BuilderService) -> dict[str, int]:
    """By digest, the bytes that the database has of blobs which only name their parts."""
    query = select(tables.blob.c.digest, tables.blob.c.parts).where(tables.blob.c.key.is_(None))
    async with service.builder.blobs.database.reading() as connection:
        return {row.digest: len(row.parts) for row in await connection.execute(query)}


async def test_two_fresh_servers_make_the_same_image(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    images = []
    for name, workers in (("one", 1), ("two", 3)):
        # wherever the bytes of layers are kept, too
        async with open_service(tmp_path / name, channel, workers=workers, joins=name == "one") as service:
            images.append(await service.build(spec_of(service, "tool", "big", "active")))
    assert images[0] == images[1]
    assert images[0].variants[0].media_type == OCI_INDEX


@pytest.mark.parametrize("where", ["joins", "objects", pytest.param("s3", marks=pytest.mark.services)])
async def test_an_image_is_whole(tmp_path: Path, request: pytest.FixtureRequest, where: str) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    objects = S3Objects(location(request.getfixturevalue("s3_server"))) if where == "s3" else None
    async with open_service(
        tmp_path / "data", channel, joins=where == "joins", objects=objects, base="host"
    ) as service:
        events: list[Event] = []
        spec = spec_of(service, "tool", "active")
        image = await service.build(spec, events.append)
        assert {event.stage for event in events} == {"solve", "download", "inspect", "layers", "image"}
        for variant in image.variants:
            stored = await service.builder.catalog.images.find_manifest(variant.digest)
            assert stored is not None
            assert stored.body.startswith(write_beginning(spec, variant.media_type))
        manifest = await manifest_of(service, image)
        blobs = service.builder.blobs
        repositories = Repositories(blobs.database, Changes(tmp_path / "changes"))
        for descriptor in [manifest["config"], *manifest["layers"]]:
            content = await blobs.content(Digest.parse(descriptor["digest"]))
            assert Digest.of(content) == descriptor["digest"]
            assert len(content) == descriptor["size"]
            assert await repositories.blob("conda-store-dynamic", Digest.parse(descriptor["digest"]))
        for variant in image.variants:
            assert await repositories.manifest("conda-store-dynamic", variant.digest)
        config = json.loads(await blobs.content(Digest.parse(manifest["config"]["digest"])))
        assert "ACTIVE_VARIABLE=yes" in config["config"]["Env"]
        assert config["config"]["Labels"]["io.condery.lock"] == image.lock_key
        assert image.warnings == ("link scripts were not run: active-1.0-0",)


async def test_one_more_package_adds_its_fragment_and_the_environment_layer(tmp_path: Path) -> None:
    more = Package(name="more", files={"share/more": os.urandom(5000)})
    channel = await make_channel(tmp_path / "channel", [*PACKAGES, more])
    root = tmp_path / "data"
    async with open_service(root, channel) as service:
        await service.build(spec_of(service, "tool", "big"))
        before, joined = stored_files(root), await joins(service)
        await service.build(spec_of(service, "tool", "big", "more"))
        after, names = stored_files(root), await joins(service)
    new = {name: size for name, size in after.items() if name not in before}
    assert all(after[name] == before[name] for name in before)
    fragments = [name for name in new if name.startswith("fragments") and not name.endswith(".json")]
    assert len(fragments) == 1
    assert 5000 <= new[fragments[0]] < 6000
    # beside it: the environment layer and the config as files, and the layers that it is in as lists of their parts
    assert len([name for name in new if name.startswith("blobs")]) == 2
    assert all(size < 10_000 for name, size in new.items() if name.startswith("blobs"))
    assert 1 <= len(names.keys() - joined.keys()) <= len(joined)
    assert sum(size for digest, size in names.items() if digest not in joined) < 5_000


async def test_several_platforms_are_an_index_made_without_running_anything(tmp_path: Path) -> None:
    arm = Package(name="big", subdir="linux-aarch64", files={"share/arm": b"arm"})
    channel = await make_channel(tmp_path / "channel", [BIG, arm])
    async with open_service(tmp_path / "data", channel, platforms=("linux-64", "linux-aarch64")) as service:
        image = await service.build(spec_of(service, "big"))
        index = await manifest_of(service, image, OCI_INDEX)
        platforms = [entry["platform"]["architecture"] for entry in index["manifests"]]
        assert sorted(platforms) == ["amd64", "arm64"]


async def test_the_host_base_has_one_platform(tmp_path: Path) -> None:
    channel = await make_channel(
        tmp_path / "channel", [Package(name="big", subdir="linux-s390x", files={"share/x": b"x"})]
    )
    async with open_service(tmp_path / "data", channel, base="host", platforms=("linux-s390x",)) as service:
        with pytest.raises(BaseUnavailable, match="linux-s390x"):
            await service.build(spec_of(service, "big"))


async def test_packages_that_cannot_share_a_prefix(tmp_path: Path) -> None:
    channel = await make_channel(
        tmp_path / "channel",
        [Package(name="one", files={"share/thing": b"file"}), Package(name="two", files={"share/thing/x": b"x"})],
    )
    async with open_service(tmp_path / "data", channel) as service:
        with pytest.raises(PathConflict, match="share/thing"):
            await service.build(spec_of(service, "one", "two"))


async def test_overlaps_are_reported_and_written_once(tmp_path: Path) -> None:
    channel = await make_channel(
        tmp_path / "channel",
        [Package(name="one", files={"share/thing": b"1"}), Package(name="two", files={"share/thing": b"2"})],
    )
    async with open_service(tmp_path / "data", channel) as service:
        image = await service.build(spec_of(service, "one", "two"))
        document = await service.builder.catalog.images.find_newest_of_lock(image.lock_key)
        assert document is not None
        (row,) = document["report"]["platforms"]["linux-64"]["overlaps"]
        assert row["path"] == "share/thing"
        assert {row["winner"], *row["losers"]} == {"one-1.0-0", "two-1.0-0"}


async def test_link_scripts_can_be_refused(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [ACTIVE])
    async with open_service(tmp_path / "data", channel, refuse_scripts=True) as service:
        with pytest.raises(PackageRefused, match=r"active.*post-link"):
            await service.build(spec_of(service, "active"))


async def test_a_damaged_archive_fails_once_and_works_when_mended(tmp_path: Path) -> None:
    directory = tmp_path / "channel"
    channel = await make_channel(directory, PACKAGES)
    archive = directory / "linux-64" / "big-1.0-0.conda"
    good = archive.read_bytes()
    archive.write_bytes(good[:-10] + b"0123456789")
    root = tmp_path / "data"
    async with open_service(root, channel, failure_memory=30) as service:
        job = Job("image", spec_of(service, "big"))
        ticket = await service.demand.image_of(job)
        with pytest.raises(BuildFailed, match=r"big-1.0-0.*sha256"):
            await ticket.wait(None)
        with pytest.raises(BuildFailed, match=r"big-1.0-0.*sha256"):
            await service.demand.image_of(job)
        assert not [name for name in stored_files(root) if name.startswith("fragments")]
        archive.write_bytes(good)
    async with open_service(root, channel, failure_memory=0) as service:
        ticket = await service.demand.image_of(job)
        assert await ticket.wait(None)


async def test_a_lock_that_fails_is_not_kept(tmp_path: Path) -> None:
    """With the command line as with the server: when the channel is mended, the next solve shows it."""
    directory = tmp_path / "channel"
    channel = await make_channel(directory, PACKAGES)
    (directory / "linux-64" / "big-1.0-0.conda").write_bytes(b"damaged")
    async with open_service(tmp_path / "data", channel) as service:
        spec, locks = spec_of(service, "big"), service.builder.catalog.locks
        await service.lock(spec)
        assert await locks.find_newest_resolution(spec.key, None)
        with pytest.raises(PackageRefused, match=r"big-1\.0-0"):
            await service.build(spec)
        assert await locks.find_newest_resolution(spec.key, None) is None


async def test_an_unknown_package_is_told_with_its_neighbours(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    async with open_service(tmp_path / "data", channel) as service:
        with pytest.raises(UnknownPackage, match="did you mean python"):
            await service.build(spec_of(service, "pyhton"))


async def test_fifty_requests_make_one_build(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    async with open_service(tmp_path / "data", channel) as service:
        tickets = await asyncio.gather(
            *(service.demand.image("conda-store-dynamic/" + name, "latest") for name in ["tool/big", "big/tool"] * 25)
        )
        images = await asyncio.gather(*(ticket.wait(None) for ticket in tickets))
        assert images[0] is not None
        assert len({image.variants[0].digest for image in images if image}) == 1
        job = Job("image", tickets[0].spec, settings=make_settings_key(service.builder.settings))
        assert await count_builds(service.builder.catalog.builds, job.key) == 1
        again = await service.demand.image("conda-store-dynamic/big/tool", "latest")
        assert again.build_id == ""
        assert "lock-" + images[0].lock_key[:12] in await service.demand.tags("conda-store-dynamic/big/tool")


async def test_a_lock_names_its_image_for_ever(tmp_path: Path) -> None:
    directory = tmp_path / "channel"
    channel = await make_channel(directory, PACKAGES)
    async with open_service(tmp_path / "data", channel, fresh_for=0, stale_for=0) as service:
        name = "conda-store-dynamic/big"
        first = await (await service.demand.image(name, "latest")).wait(None)
        assert first
        await make_channel(directory, [Package(name="big", version="2.0", files={"share/big/new": b"new"})])
        second = await (await service.demand.image(name, "latest")).wait(None)
        assert second
        assert second.lock_key != first.lock_key
        locked = await (await service.demand.image(name, f"lock-{first.lock_key[:12]}")).wait(None)
        assert locked
        assert locked.variants == first.variants
        handle = "conda-store-dynamic/spec." + spec_of(service, "big").key[:16]
        by_handle = await (await service.demand.image(handle, "latest")).wait(None)
        assert by_handle
        assert by_handle.variants == second.variants


async def test_a_full_disk_stores_nothing_by_halves(tmp_path: Path) -> None:
    huge = Package(name="huge", files={"share/huge": os.urandom(4_000_000)})
    channel = await make_channel(tmp_path / "channel", [huge, ACTIVE])
    with small_disk(tmp_path / "disk", 3) as disk:
        async with open_service(disk, channel) as service:
            with pytest.raises(StorageFull, match="no space left"):
                await service.build(spec_of(service, "huge"))
            left = [path for path in disk.rglob("*") if path.name.startswith(TEMPORARY)]
            assert left == []
            assert not [name for name in stored_files(disk) if "fragments" in name]
            assert shutil.disk_usage(disk).free > 1_500_000
            assert await service.build(spec_of(service, "active"))


async def test_another_version_of_the_popularity_table_is_another_image(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [TOOL, PYTHON])
    async with open_service(tmp_path / "data", channel) as service:
        builder = service.builder
        await builder.warm()
        (key, other) = (
            replace(builder, popularity=replace(builder.popularity, version=version)).image_key("lock", ["linux-64"])
            for version in (1, 2)
        )
        assert key
        assert other
        assert key != other
