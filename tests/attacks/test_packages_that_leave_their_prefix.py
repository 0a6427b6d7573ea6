"""Packages that try to write or read outside the environment, asked for as image and as archive of a real server.

Whoever owns a channel that an image's name can reach sends them. Either both answers refuse the package, or both hold
nothing but what was in it; no file of the server is written, and none is read.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.oci import OCI_MANIFEST
from tests.attacks.hostile import write_channel
from tests.attacks.leaving import ATTACKS, PYTHONS, SECRET
from tests.support.registry.asking import ask, manifest_path
from tests.support.server import Server


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Iterator[Server]:
    """A server whose one channel has all of them."""
    folder = tmp_path_factory.mktemp("attacked")
    channel = write_channel(folder / "channel", [*PYTHONS, *(attack.hostile for attack in ATTACKS.values())])
    server = Server(("--channels", channel, "--base", "scratch"), folder / "data", folder / "log")
    server.start()
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_or_harmless_as_image_and_as_archive(attacked: Server, victim: Path, name: str) -> None:
    attack = ATTACKS[name]
    items = "/".join([attack.hostile.package.name, *(each.replace(" ==", ".eq.") for each in attack.asked)])
    image = ask(attacked, manifest_path(items), headers={"Accept": OCI_MANIFEST})
    archive = ask(attacked, f"/files/conda-store-dynamic/{items}/latest/archive.tar.gz")
    assert {path.name: path.read_bytes() for path in victim.iterdir()} == {"secret": SECRET}
    if attack.said is not None:
        assert (image.status, archive.status) == (404, 404), (image.body, archive.body)
        (error,) = image.json()["errors"]
        assert attack.said in error["message"]
        assert attack.said in archive.json()["message"]
        return
    assert (image.status, archive.status) == (200, 200), (image.body, archive.body)
    layers = [
        ask(attacked, f"/v2/conda-store-dynamic/{items}/blobs/{layer['digest']}").body
        for layer in json.loads(image.body)["layers"]
    ]
    ours = [member for layer in layers for member in checked(layer)]
    packed = checked(archive.body)
    package = sorted((path.removeprefix("opt/conda/"), kind) for path, kind in ours if is_packages(path))
    assert package == sorted((path, kind) for path, kind in packed if is_packages(path))
    assert len(package) == len(attack.hostile.paths)


def is_packages(path: str) -> bool:
    own = ("conda-meta/", ".condery/", "bin/")
    return not path.removeprefix("opt/conda/").startswith(own) and not path.startswith("home")


def checked(content: bytes) -> list[tuple[str, bytes]]:
    """Files and links of a tar, each below the place where it is unpacked, none of them through a link."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        members = tar.getmembers()
        links = {member.name for member in members if not member.isdir()}
        assert len(members) == len({member.name for member in members})
        for member in members:
            assert not member.name.startswith("/")
            parts = member.name.split("/")
            assert ".." not in parts
            assert not links.intersection("/".join(parts[:length]) for length in range(1, len(parts)))
            file = tar.extractfile(member) if member.isreg() else None
            assert file is None or SECRET not in file.read()
        return [(member.name, member.type) for member in members if not member.isdir()]
