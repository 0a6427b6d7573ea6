"""Environments on another base image than the server's: who has it, what it decides, and what becomes of it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from tests.support.builder.images import GLIBC_2_31, tar_of
from tests.support.builder.packages import Package
from tests.support.registry.environments import Place, serving_environments

NEW = Package("new", depends=["__glibc >=2.31", "one"])
"""The server's own base is of 2.28, as nothing says otherwise."""


def write_base(path: Path) -> tuple[str, str]:
    """Write a file of docker save; return how the settings name it, and the digest of its layer's content."""
    layer = tar_of(GLIBC_2_31)
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    files = {
        "layer.tar": layer,
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}]).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return f"docker-archive:{path}", diff_id


async def diff_ids_of(place: Place, name: str) -> list[str]:
    """The layers of an environment's image, as a client pulls it."""

    async def fetch(path: str) -> Any:
        async with place.client.get(f"{place.url}/v2/{name}/{path}", headers=place.headers) as answer:
            assert answer.status == 200, await answer.text()
            return json.loads(await answer.read())

    manifest = await fetch("manifests/latest")
    manifest = await fetch(f"manifests/{manifest['manifests'][0]['digest']}") if "manifests" in manifest else manifest
    config = await fetch(f"blobs/{manifest['config']['digest']}")
    return list(config["rootfs"]["diff_ids"])


async def test_environments_on_another_base(tmp_path: Path) -> None:
    base, layer = write_base(tmp_path / "base.tar")
    async with serving_environments(tmp_path, packages=("one", NEW), allowed_bases=(base,)) as admin:
        plain = await admin.make("plain", "one")
        ours = await diff_ids_of(admin, "team/plain")
        assert layer not in ours
        assert (await admin.make("lacking", "new"))["status"] == "FAILED"

        assert (await admin.ask("PUT", "setting/team/", {"base_image": base})).data["base_image"] == base
        first = await admin.make("science", "new")
        assert first["status"] == "COMPLETED"
        theirs = await diff_ids_of(admin, "team/science")
        assert theirs[0] == layer
        # layers of packages are the same on every base
        assert ours[0] in theirs
        # a lock that somebody sends stands on it as well
        lock = (await admin.get(f"build/{first['id']}/conda-lock.yml")).body.decode()
        body = {"namespace": "team", "specification": lock, "is_lockfile": True, "environment_name": "sent"}
        sent = await admin.end_of((await admin.ask("POST", "specification/", body)).data["build_id"])
        assert sent["status"] == "COMPLETED"
        assert (await diff_ids_of(admin, "team/sent"))[0] == layer

        # what is built again has the base of now, and is another image of another lock
        again = await admin.named.rebuild(plain["id"], by="admin")
        await admin.end_of(again.id)
        moved = await diff_ids_of(admin, "team/plain")
        assert moved[0] == layer
        rows = [await admin.named.store.builds.find(each) for each in (plain["id"], again.id)]
        assert rows[0].image_key != rows[1].image_key
        assert rows[0].lock_key != rows[1].lock_key
        # it is nobody's on demand
        found = await admin.named.builder.catalog.locks.find(rows[1].lock_key or "")
        assert found is not None
        assert found["spec"]["base"] == base
        lock_tag = f"lock-{(rows[1].lock_key or '')[:12]}"
        path = f"{admin.url}/v2/conda-store-dynamic/one/manifests/{lock_tag}"
        async with admin.client.get(path, headers=admin.headers) as answered:
            assert answered.status == 404
        # and the server's own may be chosen again
        assert (await admin.ask("PUT", "setting/team/plain/", {"base_image": "scratch"})).status == 200
        await admin.end_of((await admin.named.rebuild(plain["id"], by="admin")).id)
        assert await diff_ids_of(admin, "team/plain") == ours

    async with serving_environments(tmp_path, {"boss": ("*/*=admin",)}, packages=("one", NEW)) as admin:
        refused = await admin.end_of((await admin.named.rebuild(first["id"], by="admin")).id)
        assert refused["status"] == "FAILED"
        assert "this server does not allow it (allowed_bases)" in refused["status_info"]
        # what is built stays
        assert (await diff_ids_of(admin, "team/science"))[0] == layer
