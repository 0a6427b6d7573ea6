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

import pytest

from builder.base.opening import open_base
from builder.base.vocabulary import Base, BaseImage
from builder.platforms import host_platform
from builder.remote.repository import Login
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
    return open_base(reference, blobs=data.blobs, directory=data.root / "bases", logins=logins or {}, insecure=insecure)


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
