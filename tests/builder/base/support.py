"""What tests of bases share: a data directory with its store, and the programs of this machine."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.base.opening import open_base
from builder.base.vocabulary import Base, BaseImage
from builder.platforms import host_platform
from builder.remote.logins import Login
from storage.catalog.bases import Bases
from storage.digest import Digest
from tests.support.builder.images import OCI
from tests.support.storage.stores import Blocking

OWN = host_platform() or "linux-64"
OTHER = "linux-s390x" if OWN != "linux-s390x" else "linux-64"


@dataclass
class Data:
    """A data directory, and the store in it."""

    root: Path
    blobs: Blocking


OpenData = Callable[[str], Data]

PAIR = ("linux-64", "linux-aarch64")


def opened(
    reference: str, data: Data, logins: Mapping[str, Login] | None = None, insecure: Collection[str] = ()
) -> Base:
    return open_base(
        reference,
        blobs=data.blobs,
        pins=Pins(data.blobs),
        directory=data.root / "bases",
        logins=logins or {},
        insecure=insecure,
    )


@dataclass
class Pins:
    """The pins of a store whose event loop runs in another thread."""

    blobs: Blocking

    async def find(self, key: str) -> Digest | None:
        return await self.blobs.elsewhere(self._bases.find(key))

    async def pin(self, key: str, reference: str, digest: Digest) -> Digest:
        return await self.blobs.elsewhere(self._bases.pin(key, reference, digest))

    async def find_image(self, key: str, platform: str) -> dict[str, Any] | None:
        return await self.blobs.elsewhere(self._bases.find_image(key, platform))

    async def put_image(self, key: str, platform: str, document: Mapping[str, Any]) -> None:
        await self.blobs.elsewhere(self._bases.put_image(key, platform, document))

    @property
    def _bases(self) -> Bases:
        return self.blobs.stores.catalog.bases


def check(image: BaseImage, data: Data) -> None:
    """Every layer is stored, in its size, and uncompresses to its diff_id."""
    for layer in image.layers:
        blob = b"".join(data.blobs.read(layer.descriptor.digest))
        assert len(blob) == layer.descriptor.size
        assert layer.descriptor.media_type == OCI + "layer.v1.tar+gzip"
        assert Digest.of(gzip.decompress(blob)) == layer.diff_id


def files_of(image: BaseImage, data: Data) -> set[str]:
    names: set[str] = set()
    for layer in image.layers:
        blob = b"".join(data.blobs.read(layer.descriptor.digest))
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
            names.update(tar.getnames())
    return names


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def need_docker() -> None:
    need("docker")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("there is no docker daemon")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
