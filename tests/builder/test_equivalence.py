"""The proof of the install rules: an image holds what `rattler.install` puts on the disk, but for the list below.

- `conda-meta` is condery's own; `.condery` holds the entrypoint.
- directories: an image has those its files need, with fixed modes.
- a file with a replaced prefix has another mtime; mtimes are not compared.
- a link that paths.json marks `no_link` (openssl 1.0.2o) stays a link; rattler copies what it points to.
- rattler leaves a CACHEDIR.TAG for backup programs, and the losers of an overlap aside in `__clobbers__`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import rattler

from builder.service import BuilderService
from storage.digest import Digest
from storage.oci import OCI_MANIFEST
from storage.repositories.rows import StoredManifest
from tests.support.builder.installed import KINDS, Found, installed
from tests.support.builder.services import make_channel, open_service, spec_of

PREFIX = "opt/conda/"
OURS = ("conda-meta/", ".condery/")


async def layers_of(service: BuilderService, manifest: StoredManifest) -> list[bytes]:
    digests = [Digest.parse(layer["digest"]) for layer in json.loads(manifest.body)["layers"]]
    return [await service.builder.blobs.content(digest) for digest in digests]


def unpacked(layers: Sequence[bytes]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for content in layers:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            names = tar.getnames()
            assert len(names) == len(set(names)), "docker refuses a path that occurs twice"
            for member in tar:
                assert (member.uid, member.gid) == (0, 0)
                name = member.name.removeprefix(PREFIX)
                if member.isdir() or name.startswith(OURS):
                    continue
                assert name not in found, f"{name} is in two layers"
                if member.issym():
                    found[name] = Found("link", False, member.linkname)
                else:
                    file = tar.extractfile(member)
                    assert file is not None
                    digest = hashlib.sha256(file.read()).hexdigest()
                    found[name] = Found("file", bool(member.mode & 0o111), digest)
    return found


async def compare(service: BuilderService, work: Path, *specs: str) -> int:
    """Build and install the same lock, compare every path; how many there were."""
    spec = spec_of(service, *specs)
    lock = await service.lock(spec)
    image = await service.build(spec)
    (descriptor,) = [variant for variant in image.variants if variant.media_type == OCI_MANIFEST]
    manifest = await service.builder.catalog.images.find_manifest(descriptor.digest)
    assert manifest is not None
    records = await rattler.solve(
        [lock.packages["linux-64"][0].channel],
        [f"{package.name} =={package.version} {package.build}" for package in lock.packages["linux-64"]],
        platforms=["linux-64", "noarch"],
        virtual_packages=[
            rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString("0"))
            for name, version in (("__linux", "6"), ("__unix", "0"), ("__glibc", "2.36"), ("__archspec", "1"))
        ],
    )
    assert {record.file_name for record in records} == {package.file_name for package in lock.packages["linux-64"]}
    prefix = work / "prefix"
    await rattler.install(
        records,
        target_prefix=prefix,
        cache_dir=work / "cache",
        alternative_target_prefix="/opt/conda",
        show_progress=False,
        execute_link_scripts=False,
    )
    ours = await asyncio.to_thread(unpacked, await layers_of(service, manifest))
    theirs = dict(await asyncio.to_thread(lambda: list(installed(prefix))))
    assert ours.keys() ^ theirs.keys() == set()
    assert {path: (ours[path], found) for path, found in theirs.items() if ours[path] != found} == {}
    return len(ours)


async def test_every_kind_of_file(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", KINDS)
    async with open_service(tmp_path / "data", channel) as service:
        assert await compare(service, tmp_path, "pure", "twin") == 21


@pytest.mark.parametrize("specs", [("python", "numpy", "flask"), ("jupyterlab", "pandas", "scipy")])
async def test_real_environments(sample_channel: Path, tmp_path: Path, specs: tuple[str, ...]) -> None:
    async with open_service(tmp_path / "data", sample_channel.as_uri(), glibc="2.36") as service:
        assert await compare(service, tmp_path, *specs) > 1000
