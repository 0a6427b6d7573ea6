"""Blobs of other registries: whose they are, and where they are kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from storage.database import tables
from storage.digest import Digest
from storage.errors import StorageFull
from storage.objects.files import FileObjects
from storage.objects.protocol import ObjectPart, ObjectWriter
from storage.objects.s3 import S3Objects
from storage.objects.segments import Segment
from storage.quotas.limits import Limits, Quota
from tests.support.registry.mirrored import APP, get, get_refusal
from tests.support.registry.mirrored_blobs import (
    CONFIG,
    HALF,
    IMAGE,
    LAYER,
    OTHER,
    Gate,
    Sends,
    assert_nothing_stored,
    cut_short,
    path_of,
    site_downloads,
)
from tests.support.registry.serving import Site
from tests.support.registry.upstreams import ScriptedRegistry, image, mirroring, scripted_registry
from tests.support.servers.s3_server import S3Server
from tests.support.storage.s3_buckets import location, names_in


async def test_a_blob_of_another_repository_has_to_be_the_upstreams_too(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    """A manifest that names somebody's secret by its digest, pulled through, shows nothing of it."""
    secret = b"secret of somebody else"
    naming = image(secret)
    upstream.put(APP, naming, "naming")
    del upstream.blobs[APP, naming.layer]
    async with mirroring(tmp_path, upstream.host) as site:
        await site.workshop.put_blob(secret, "private/app")
        await get(site, f"{upstream.mirrored}/{APP}/manifests/naming")
        for method in ("GET", "HEAD"):
            async with site.request(method, path_of(upstream, naming.layer)) as response:
                assert response.status == 404
                assert secret not in await response.read()
        assert "unknown to the upstream" in await get_refusal(
            site, path_of(upstream, naming.layer).removeprefix("/v2/"), 404, "BLOB_UNKNOWN"
        )


async def test_a_blob_of_the_same_registry_is_not_fetched_again(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    upstream.put("team/other", IMAGE, "latest")
    async with mirroring(tmp_path, upstream.host) as site:
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        other = path_of(upstream).replace(APP, "team/other")
        assert await get(site, other.removeprefix("/v2/")) == LAYER
        assert upstream.count("GET", "/blobs/") == 1
        assert upstream.count("HEAD", "team/other/blobs/") == 1
        # only as far as the registry says so
        third = path_of(upstream).replace(APP, "team/third")
        await get_refusal(site, third.removeprefix("/v2/"), 404, "BLOB_UNKNOWN")


async def test_a_blob_that_two_registries_have_is_fetched_from_both_and_stored_once(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    async with scripted_registry() as second:
        second.put(APP, IMAGE)
        async with mirroring(tmp_path, upstream.host, second.host) as site:
            for each in (upstream, second):
                assert await get(site, path_of(each).removeprefix("/v2/")) == LAYER
                assert each.count("GET", "/blobs/") == 1
            async with site.workshop.store.database.reading() as connection:
                assert (await connection.execute(select(func.count()).select_from(tables.blob))).scalar() == 1


async def test_two_servers_over_the_same_data_fetch_the_same_blob(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate
) -> None:
    async with mirroring(tmp_path, upstream.host) as one, mirroring(tmp_path, upstream.host) as two:
        pulls = [asyncio.create_task(get(site, path_of(upstream).removeprefix("/v2/"))) for site in (one, two)]
        while upstream.count("GET", "/blobs/") < 2:
            await asyncio.sleep(0.01)
        gate.rest.set()
        assert await asyncio.gather(*pulls) == [LAYER, LAYER]
        upstream.behaviour = None
        for site in (one, two):
            assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
            while site_downloads(site):
                await asyncio.sleep(0.01)
        async with one.workshop.store.database.reading() as connection:
            assert (await connection.execute(select(func.count()).select_from(tables.pending))).scalar() == 0


async def test_a_quota_is_met_before_anything_is_fetched(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    limits = Limits(quotas=(Quota("mirror/*", bytes=1_000_000),))
    async with mirroring(tmp_path, upstream.host, limits=limits) as site:
        message = await get_refusal(site, path_of(upstream).removeprefix("/v2/"), 403, "DENIED")
        assert "mirror/* may hold 1,000,000 bytes" in message
        await assert_nothing_stored(site)


# stores


class FarObjects:
    """An ObjectStore that is not local, as S3 is; full when an object has `room` bytes."""

    def __init__(self, root: Path) -> None:
        self._files = FileObjects(root)
        self.room = 1 << 40

    def writer(self, key: str) -> ObjectWriter:
        return _Limited(self._files.writer(key), self)

    def segments(self, key: str, start: int, stop: int) -> Sequence[Segment]:
        return self._files.segments(key, start, stop)

    def concatenate(self, key: str, parts: Sequence[ObjectPart]) -> None:
        self._files.concatenate(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        self._files.delete(keys)

    def link(self, key: str, *, media_type: str) -> str | None:
        return None

    def check(self) -> None:
        self._files.check()


class _Limited:
    def __init__(self, writer: ObjectWriter, store: FarObjects) -> None:
        self._writer, self._store = writer, store
        self.commit, self.abort = writer.commit, writer.abort

    @property
    def size(self) -> int:
        return self._writer.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.size + len(data) > self._store.room:
            raise StorageFull("blobs")
        self._writer.write(data)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarObjects:
    """What servers that are started from here on have for a store."""
    store = FarObjects(tmp_path / "blobs")
    monkeypatch.setattr("storage.store.open_objects", lambda _settings, floor: store)
    return store


async def test_a_store_that_is_far_away(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate, far: FarObjects
) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", path_of(upstream)) as response:
            assert await response.content.readexactly(HALF) == LAYER[:HALF]
            gate.rest.set()
            assert await response.content.read() == LAYER[HALF:]
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        assert list((tmp_path / "mirror").iterdir()) == [], "what was on its way stayed"


@pytest.mark.services
async def test_a_bucket(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = location(s3_server)
    monkeypatch.setattr("storage.store.open_objects", lambda _settings, floor: S3Objects(where))
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", path_of(upstream)) as response:
            assert await response.content.readexactly(HALF) == LAYER[:HALF]
            gate.rest.set()
            assert await response.content.read() == LAYER[HALF:]
        blob = await site.workshop.store.blobs.find(IMAGE.layer)
        assert names_in(s3_server, where) == {blob.key}
        # from there on it is the bucket's to send
        async with site.request("GET", path_of(upstream), allow_redirects=False) as response:
            assert response.status == 307
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        upstream.behaviour = Sends(OTHER, len(OTHER))
        upstream.put(APP, image(b"other"))
        await cut_short(site, path_of(upstream, Digest.of(b"other")))
        while site_downloads(site):
            await asyncio.sleep(0.01)
        assert names_in(s3_server, where) == {blob.key}


async def test_a_full_disk_cuts_the_client_off_and_leaves_nothing(
    tmp_path: Path, upstream: ScriptedRegistry, far: FarObjects
) -> None:
    far.room = HALF
    async with mirroring(tmp_path, upstream.host) as site:
        assert len(await cut_short(site, path_of(upstream))) < len(LAYER)
        while site_downloads(site):
            await asyncio.sleep(0.01)
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
        far.room = 1 << 40
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER


async def test_nothing_stays_open(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        await get(site, path_of(upstream, CONFIG).removeprefix("/v2/"))
        await settle(site, tmp_path)
        upstream.behaviour = Sends(OTHER, len(OTHER))
        await cut_short(site, path_of(upstream))
        upstream.behaviour = None
        await get(site, path_of(upstream).removeprefix("/v2/"))
        await settle(site, tmp_path)


async def settle(site: Site, directory: Path) -> None:
    """Wait until no download runs and no blob is open: a client may have its last byte before the file is closed."""
    while site_downloads(site) or open_files(directory):
        await asyncio.sleep(0.01)


def open_files(directory: Path) -> list[str]:
    found = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each for each in found if each.startswith(f"{directory}/blobs")]
