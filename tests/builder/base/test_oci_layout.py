"""Bases from OCI layouts."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from builder.errors import BaseUnavailable
from builder.publish import write_oci_layout
from storage.digest import Descriptor, Digest
from tests.builder.base.support import PAIR, Data, OpenData, check, files_of, need, opened, run
from tests.support.builder.images import DOCKER, GLIBC_2_31, OCI, Images


class TestLayout:
    async def test_what_publish_writes(self, images: Images, data: Data, tmp_path: Path) -> None:
        index = images.index({platform: images.image([GLIBC_2_31], platform) for platform in PAIR})
        write_oci_layout(tmp_path / "layout", images.stored(index), tag="12")
        for reference in (f"oci-layout:{tmp_path}/layout", f"oci-layout:{tmp_path}/layout:12"):
            image = await opened(reference, data).resolve("linux-aarch64")
            check(image, data)
            assert (image.digest, image.glibc, image.has_shell) == (index.digest, "2.31", True)
            assert str(tmp_path) not in image.reference
        with pytest.raises(BaseUnavailable, match="only for linux-64, linux-aarch64"):
            await opened(f"oci-layout:{tmp_path}/layout", data).resolve("linux-s390x")

    async def test_what_it_holds_later_is_the_base_later(self, images: Images, data: Data, tmp_path: Path) -> None:
        base = opened(f"oci-layout:{tmp_path}/layout", data)
        for state in ("old", "new"):
            shutil.rmtree(tmp_path / "layout", ignore_errors=True)
            write_oci_layout(tmp_path / "layout", images.stored(images.image([{state: b""}])))
            assert state in files_of(await base.resolve("linux-64"), data)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda layout: (layout / "index.json").unlink(), "no index.json"),
            (lambda layout: (layout / "oci-layout").write_text('{"imageLayoutVersion": "9"}'), "version 1"),
            (lambda layout: (layout / "index.json").write_text("{"), "not JSON"),
            (lambda layout: (layout / "index.json").write_text('{"manifests": 1}'), "malformed"),
            (lambda layout: (layout / "index.json").write_text('{"manifests": []}'), "other systems"),
            (lambda layout: shutil.rmtree(layout / "blobs"), "has no blobs/"),
            (lambda layout: [file.write_bytes(b"{}") for file in layout.glob("blobs/*/*")], "another digest"),
            (lambda layout: shutil.rmtree(layout), "no oci-layout"),
        ],
    )
    async def test_damaged(self, images: Images, data: Data, tmp_path: Path, damage: object, reason: str) -> None:
        write_oci_layout(tmp_path / "layout", images.stored(images.image([{"x": b""}])))
        assert callable(damage)
        damage(tmp_path / "layout")
        with pytest.raises(BaseUnavailable, match=reason):
            await opened(f"oci-layout:{tmp_path}/layout", data).resolve("linux-64")

    async def test_lies(self, images: Images, open_data: OpenData, tmp_path: Path) -> None:
        image = images.image([{"x": b""}])
        manifest = json.loads(images.manifest(image.digest))
        layers = manifest["layers"]
        nested = images.index({"linux-64": image})
        for _ in range(3):
            nested = images.document(OCI + "index.v1+json", {"manifests": [nested.to_json()]})
        no_tar = images.blob(OCI + "layer.v1.tar+gzip", gzip.compress(b"no tar at all" * 100))
        for number, (descriptor, reason) in enumerate(
            [
                (images.index({"linux-aarch64": image}), "index says linux-aarch64"),
                (images.document(OCI + "manifest.v1+json", {**manifest, "layers": []}), "0 layers, its config 1"),
                (
                    images.document(OCI + "manifest.v1+json", {**manifest, "layers": [{**layers[0], "size": 1}]}),
                    "not 1 as its manifest says",
                ),
                (
                    images.document(
                        OCI + "manifest.v1+json",
                        {
                            **manifest,
                            "layers": [{**layers[0], "mediaType": DOCKER + "image.rootfs.foreign.diff.tar.gzip"}],
                        },
                    ),
                    "which an image cannot hold",
                ),
                (
                    images.document(OCI + "manifest.v1+json", {**manifest, "layers": [no_tar.to_json()]}),
                    "cannot be read",
                ),
                (nested, "nested"),
            ]
        ):
            layout = tmp_path / f"layout-{number}"
            self._write_as_is(layout, images, descriptor)
            platform = "linux-aarch64" if number == 0 else "linux-64"
            with pytest.raises(BaseUnavailable, match=reason):
                await opened(f"oci-layout:{layout}", open_data(str(number))).resolve(platform)

    def _write_as_is(self, layout: Path, images: Images, descriptor: Descriptor) -> None:
        """A layout of everything that was ever made: what publishes would refuse the lies."""
        (layout / "blobs/sha256").mkdir(parents=True)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor.to_json()]}))
        for digest, body in images.manifests.items():
            (layout / "blobs/sha256" / Digest(digest).hex).write_bytes(body)
        for digest in images.blobs.everything().digests:
            shutil.copy(images.blobs.path(digest), layout / "blobs/sha256" / digest.hex)

    @pytest.mark.clients
    async def test_what_skopeo_writes(self, images: Images, data: Data, tmp_path: Path) -> None:
        need("skopeo")
        write_oci_layout(tmp_path / "layout", images.stored(images.image([GLIBC_2_31])), tag="a")
        for tag in ("one", "two"):
            run("skopeo", "--insecure-policy", "copy", "-q", f"oci:{tmp_path}/layout:a", f"oci:{tmp_path}/copy:{tag}")
        check(await opened(f"oci-layout:{tmp_path}/copy:two", data).resolve("linux-64"), data)
        with pytest.raises(BaseUnavailable, match="it has one, two"):
            await opened(f"oci-layout:{tmp_path}/copy", data).resolve("linux-64")
        with pytest.raises(BaseUnavailable, match="0 images called three"):
            await opened(f"oci-layout:{tmp_path}/copy:three", data).resolve("linux-64")
