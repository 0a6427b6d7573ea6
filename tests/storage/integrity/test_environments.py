"""Environments are checked, repaired and backed up with everything else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from storage.database import tables
from storage.database.engine import sqlite_url
from storage.database.log_tables import environment_log
from storage.digest import Digest
from storage.environments.logs import Appended
from storage.integrity.backup import back_up
from storage.integrity.repair import Repaired, repair
from storage.integrity.verify import Verifier
from tests.support.storage.content import Content, open_content
from tests.support.storage.environments import REPOSITORY, Named


@pytest.fixture
def named(content: Content) -> Named:
    return Named.of(content)


async def damage(named: Named, digest: Digest) -> None:
    query = select(tables.blob.c.key).where(tables.blob.c.digest == digest)
    [(key,)] = await named.content.stores.rows(query)
    [path] = (each for each in (named.content.stores.root / "blobs").rglob(key))
    path.chmod(0o600)
    path.write_bytes(b"!" * path.stat().st_size)


async def test_what_a_damaged_blob_of_an_environment_is_needed_by(named: Named) -> None:
    build = await named.make("one")
    await damage(named, Digest.of(b"layer of one"))
    found = await Verifier(named.content.stores.blobs).verify()
    assert [each.digest for each in found.damage] == [Digest.of(b"layer of one")]
    assert any(each.startswith(REPOSITORY) for each in found.damage[0].needed_by)
    assert await repair(named.content.stores.blobs, named.content.changes, found) == Repaired(blobs=1, images=1)
    # nobody gets an image of which a part is missing: whoever pulls is told that it was lost
    assert await named.store.builds.find_image("one") is None
    again = await named.make("one")
    assert (again.same_as, (await named.store.builds.find(build.id)).image_key) == (build.id, "one")
    assert await named.store.builds.find_image("one") == {}
    assert (await Verifier(named.content.stores.blobs).verify()).damage == []
    assert len(await named.content.manifests(REPOSITORY)) == 3
    await named.content.assert_sound()


async def test_repairing_what_only_an_environment_has_left(named: Named) -> None:
    await named.make("one")
    await named.lose_image("one")
    await damage(named, Digest.of(b"layer of one"))
    found = await Verifier(named.content.stores.blobs).verify()
    assert await repair(named.content.stores.blobs, named.content.changes, found) == Repaired(blobs=1, images=1)
    assert await named.store.builds.find_image("one") is None


async def test_a_backup_has_environments_with_images_and_logs(tmp_path: Path) -> None:
    async with open_content(tmp_path / "data") as content:
        named = Named.of(content)
        build = await named.make("one", "python")
        await named.store.logs.append([Appended(build.id, b"line\n", begins=True)])
        await named.store.logs.finish(build.id)
        await named.store.settings.change({"kept_builds": 3}, "team")
        await named.lose_image("one")
        await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / "backup")
    async with open_content(tmp_path / "backup", url=sqlite_url(tmp_path / "backup" / "condery.sqlite")) as content:
        restored = Named.of(content)
        assert await restored.store.builds.find(build.id) == build
        assert (await restored.store.logs.read(build.id, 0)).content == b"line\n"
        assert await content.count(environment_log) == 1
        assert await restored.store.builds.find_image("one") == {}
        assert [dict(each.document) for each in await restored.store.settings.list_layers("team")] == [
            {"kept_builds": 3}
        ]
        assert (await Verifier(content.stores.blobs).verify()).damage == []
        await restored.make("one")
