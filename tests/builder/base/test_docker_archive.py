"""Bases from docker archives."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from builder.errors import BaseUnavailable
from builder.platforms import oci_platform
from builder.publish import write_docker_archive
from storage.digest import Digest
from tests.builder.base.support import Data, check, need, need_docker, opened, run
from tests.support.builder.images import GLIBC_2_31, Images, tar_of


class TestDockerArchive:
    def _write(self, path: Path, layers: list[bytes], *, diff_ids: list[bytes] | None = None) -> None:
        """The form of `docker save` before 25: uncompressed layers, the second of two equal ones a link."""
        config = {
            **oci_platform("linux-64"),
            "config": {"Cmd": ["sh"]},
            "rootfs": {"diff_ids": [Digest.of(layer) for layer in diff_ids or layers]},
        }
        names = [f"{number}/layer.tar" for number in range(len(layers))]
        manifest = [{"Config": "config.json", "RepoTags": ["x:1", "y:2"], "Layers": names}]
        files: dict[str, bytes | str] = dict(zip(names, layers, strict=True))
        if len(layers) > 1 and layers[0] == layers[1]:
            files[names[1]] = "../0/layer.tar"
        files |= {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
        path.write_bytes(tar_of(files))

    async def test_uncompressed_layers_and_links(self, data: Data, tmp_path: Path) -> None:
        layer = tar_of(GLIBC_2_31)
        self._write(tmp_path / "it.tar", [layer, layer])
        image = await opened(f"docker-archive:{tmp_path}/it.tar:x:1", data).resolve("linux-64")
        check(image, data)
        assert image.layers[0] == image.layers[1]
        assert (image.glibc, image.has_shell, image.config["config"]) == ("2.31", True, {"Cmd": ["sh"]})
        assert not list((data.root / "bases").iterdir())

    async def test_tags(self, data: Data, tmp_path: Path) -> None:
        self._write(tmp_path / "it.tar", [tar_of({})])
        for tag in ("", ":1", ":2", ":y:2"):
            await opened(f"docker-archive:{tmp_path}/it.tar{tag}", data).resolve("linux-64")
        with pytest.raises(BaseUnavailable, match="0 images called 3; it has x:1, y:2"):
            await opened(f"docker-archive:{tmp_path}/it.tar:3", data).resolve("linux-64")
        with pytest.raises(BaseUnavailable, match="only for linux-64"):
            await opened(f"docker-archive:{tmp_path}/it.tar", data).resolve("linux-aarch64")

    async def test_damaged(self, data: Data, tmp_path: Path) -> None:
        path = tmp_path / "it.tar"
        base = opened(f"docker-archive:{path}", data)
        with pytest.raises(BaseUnavailable, match="No such file"):
            await base.resolve("linux-64")
        self._write(path, [tar_of({"a": b""})], diff_ids=[b"another"])
        with pytest.raises(BaseUnavailable, match="has digest"):
            await base.resolve("linux-64")
        whole = path.read_bytes()
        path.write_bytes(gzip.compress(whole))
        with pytest.raises(BaseUnavailable, match="decompress it first"):
            await base.resolve("linux-64")
        path.write_bytes(tar_of({"manifest.json": b'[{"Config": 1}]'}))
        with pytest.raises(BaseUnavailable, match="malformed"):
            await base.resolve("linux-64")
        path.write_bytes(tar_of({"manifest.json": b'[{"Config": "c", "Layers": []}]'}))
        with pytest.raises(BaseUnavailable, match="it has no c"):
            await base.resolve("linux-64")
        path.write_bytes(tar_of({"something": b""}))
        with pytest.raises(BaseUnavailable, match="no oci-layout"):
            await base.resolve("linux-64")

    async def test_what_publish_writes(self, images: Images, data: Data, tmp_path: Path) -> None:
        image = images.image([GLIBC_2_31, {"b": b"b"}])
        write_docker_archive(tmp_path / "it.tar", images.stored(image), name="x:1")
        check(await opened(f"docker-archive:{tmp_path}/it.tar", data).resolve("linux-64"), data)

    @pytest.mark.clients
    async def test_what_docker_and_skopeo_write(self, images: Images, data: Data, tmp_path: Path) -> None:
        need_docker()
        need("skopeo")
        name = f"condery-test/{tmp_path.name}:v1"
        image = images.image([GLIBC_2_31, {"b": b"b"}])
        write_docker_archive(tmp_path / "in.tar", images.stored(image), name=name)
        run("docker", "load", "-q", "-i", str(tmp_path / "in.tar"))
        try:
            run("docker", "save", "-o", str(tmp_path / "docker.tar"), name)
        finally:
            run("docker", "image", "rm", name)
        run("skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{tmp_path}/in.tar",
            f"docker-archive:{tmp_path}/skopeo.tar:{name}")  # fmt: skip
        found = [
            await opened(f"docker-archive:{tmp_path}/{each}.tar:v1", data).resolve("linux-64")
            for each in ("docker", "skopeo")
        ]
        for each in found:
            check(each, data)
            assert (each.glibc, each.has_shell) == ("2.31", True)
        assert found[0].layers == found[1].layers
