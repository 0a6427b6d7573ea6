"""Who may read copies of other registries, what is mirrored, and that nobody writes there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from auth.permission import Permission
from registry.kinds.kind import KINDS
from tests.support.registry.access import GrantedAccess
from tests.support.registry.mirrored import APP, FIRST, assert_pulled, get, get_refusal, name_of
from tests.support.registry.serving import serving
from tests.support.registry.upstreams import ScriptedRegistry, mirroring


async def test_a_copy_needs_one_grant_by_whichever_name_it_is_asked_for(tmp_path: Path) -> None:
    async with mirroring(tmp_path, "docker.io") as site:
        for name in ("debian", "library/debian"):
            for host in ("docker.io", "index.docker.io"):
                repository = f"mirror/{host}/{name}"
                need = site.app[KINDS].of(repository).needs(Permission.ENVIRONMENT_READ, repository)
                assert need[:2] == (Permission.ENVIRONMENT_READ, "mirror/docker.io/library/debian")
                assert need.scope == f"repository:{repository}:pull", "tokens are issued for names"


async def test_who_may_read_one_registry_s_copies_may_not_read_another_s(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    access = GrantedAccess(frozenset({(Permission.ENVIRONMENT_READ, "mirror/docker.io/library/debian")}))
    async with mirroring(tmp_path, "docker.io", upstream.host, access=access) as site:
        assert "whoever is not signed in may not pull from mirror/" in await get_refusal(
            site, f"{name_of(upstream.host)}/manifests/latest", 401, "UNAUTHORIZED"
        )
        assert upstream.asked == []


WRITES = [
    ("PUT", "manifests/latest"), ("DELETE", "manifests/latest"), ("DELETE", f"blobs/{FIRST.layer}"),
    ("POST", "blobs/uploads/"), ("POST", f"blobs/uploads/?mount={FIRST.layer}&from=a"),
    ("PATCH", "blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_copies_cannot_be_written_to(tmp_path: Path, upstream: ScriptedRegistry, method: str, path: str) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        for name in (f"{upstream.mirrored}/{APP}", "mirror/elsewhere.example/a", "mirror"):
            message = await get_refusal(site, f"{name}/{path}", 403, "DENIED", method)
            assert message == f"{name} is reserved for a copy from another registry; push or delete there"
    async with serving(tmp_path / "without") as site:
        await get_refusal(site, f"mirror/ghcr.io/a/{path}", 403, "DENIED", method)


BY_DIGEST = [f"manifests/{FIRST.digest}", f"blobs/{FIRST.layer}", f"referrers/{FIRST.digest}"]


@pytest.mark.parametrize("path", ["manifests/latest", "tags/list", *BY_DIGEST])
async def test_what_is_not_mirrored(tmp_path: Path, upstream: ScriptedRegistry, path: str) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        message = await get_refusal(site, f"mirror/quay.io/a/{path}", 404, "NAME_UNKNOWN")
        assert message == f"quay.io is not mirrored here; {upstream.host} is"
        await get_refusal(site, f"mirror/{path}", 404, "NAME_UNKNOWN")
    async with serving(tmp_path / "without") as site:
        message = await get_refusal(site, f"mirror/quay.io/a/{path}", 404, "NAME_UNKNOWN")
        assert message == "no other registry is mirrored here; the setting `mirrors` lists them"


async def test_what_is_not_mirrored_any_more_is_not_served(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    name = f"{upstream.mirrored}/{APP}"
    async with mirroring(tmp_path, upstream.host) as site:
        await assert_pulled(site, name, "latest", FIRST)
    async with mirroring(tmp_path, "ghcr.io") as site:
        for reference in ("manifests/latest", f"manifests/{FIRST.digest}", f"blobs/{FIRST.layer}"):
            await get_refusal(site, f"{name}/{reference}", 404, "NAME_UNKNOWN")


async def test_what_is_mirrored_can_be_mounted_and_tags_be_kept(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        await assert_pulled(site, f"{upstream.mirrored}/{APP}", "latest", FIRST)
        query = f"mount={FIRST.layer}&from={upstream.mirrored}/{APP}"
        await get(site, f"own/app/blobs/uploads/?{query}", 201, "POST")
        await get(site, f"own/app/blobs/uploads/?{query.replace('_', '_9')}", 202, "POST")


async def test_a_pull_is_written_down(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    begun = time.time()
    async with mirroring(tmp_path, upstream.host) as site:
        name = f"{upstream.mirrored}/{APP}"
        await get(site, f"{name}/manifests/latest")
        database = site.workshop.store.database
        async with database.writing() as connection:
            await connection.exec_driver_sql("UPDATE mirrored_manifest SET pulled = 1")
    async with mirroring(tmp_path, upstream.host) as site:
        for _ in range(3):
            await get(site, f"{name}/manifests/{FIRST.digest}")
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.workshop.store.database.reading() as connection:
            [(pulled,)] = await connection.exec_driver_sql("SELECT pulled FROM mirrored_manifest")
        assert pulled > begun
