"""What holds for every base, and the one that is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import BaseUnavailable
from builder.platforms import OCI_PLATFORMS, conda_platform, oci_platform
from builder.publish import write_docker_archive, write_oci_layout
from tests.builder.base.support import OWN, Data, check, opened
from tests.support.builder.images import GLIBC_2_31, Images


class TestPlatforms:
    @pytest.mark.parametrize("platform", sorted(OCI_PLATFORMS))
    def test_there_and_back(self, platform: str) -> None:
        assert conda_platform(oci_platform(platform)) == platform

    @pytest.mark.parametrize(
        ("oci", "conda"),
        [
            ({"os": "linux", "architecture": "arm64", "variant": "v8"}, "linux-aarch64"),
            ({"os": "linux", "architecture": "arm"}, "linux-armv7l"),
            ({"os": "linux", "architecture": "amd64", "variant": "v3"}, None),
            ({"os": "windows", "architecture": "amd64"}, None),
            ({"os": "unknown", "architecture": "unknown"}, None),
            ({}, None),
        ],
    )
    def test_spellings(self, oci: dict[str, str], conda: str | None) -> None:
        assert conda_platform(oci) == conda

    def test_no_image_for_other_systems(self) -> None:
        with pytest.raises(ValueError, match=r"osx-64.*linux-64"):
            oci_platform("osx-64")


class TestScratch:
    async def test_nothing_for_every_platform(self, data: Data) -> None:
        for platform in OCI_PLATFORMS:
            image = await opened("scratch", data).resolve(platform)
            assert (image.layers, image.digest, image.has_shell, image.glibc) == ((), None, False, None)

    async def test_unknown_platform(self, data: Data) -> None:
        with pytest.raises(BaseUnavailable, match="win-64"):
            await opened("scratch", data).resolve("win-64")


class TestGlibc:
    @pytest.mark.parametrize(
        ("library", "version"),
        [
            (b"\x7fELF\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright", "2.36"),
            (b"GNU C Library without it\n version 1.0\nGNU C Library (x) version 2.31", "2.31"),
            (b"GNU C Library version x, version 2.17, version 3.0\n", "2.17"),
            (b"no library version 2.31", None),
            (b"GNU C Library (x) version 2." + b"1" * 5000, None),
            # as many beginnings as are read, on one line: to search from each takes the square of it
            (b"GNU C Library " * ((16 << 20) // 14), None),
        ],
        ids=range(6),
    )
    async def test_in_a_file(
        self, images: Images, data: Data, tmp_path: Path, library: bytes, version: str | None
    ) -> None:
        image = images.stored(images.image([{"lib/libc.so.6": library}], OWN))
        write_oci_layout(tmp_path / "it", image)
        assert (await opened(f"oci-layout:{tmp_path}/it", data).resolve(OWN)).glibc == version

    @pytest.mark.parametrize("digits", [b"1" * 5, b"1" * 5000])
    async def test_of_a_link(self, images: Images, data: Data, tmp_path: Path, digits: bytes) -> None:
        link = f"libc-2.{digits.decode()}.so"
        write_oci_layout(tmp_path / "it", images.stored(images.image([{"lib/libc.so.6": link}], OWN)))
        assert (await opened(f"oci-layout:{tmp_path}/it", data).resolve(OWN)).glibc is None


@pytest.mark.parametrize("kind", ["host", "oci-layout", "docker-archive"])
async def test_a_base_that_is_built_on_is_safe_from_garbage_collection(
    images: Images, data: Data, tmp_path: Path, kind: str
) -> None:
    image = images.stored(images.image([GLIBC_2_31, {"b": b"b"}], OWN))
    if kind == "oci-layout":
        write_oci_layout(tmp_path / "it", image)
    elif kind == "docker-archive":
        write_docker_archive(tmp_path / "it", image)
    base = opened("host" if kind == "host" else f"{kind}:{tmp_path}/it", data)
    resolved = await base.resolve(OWN)
    layers = {layer.descriptor.digest for layer in resolved.layers}
    for each in (base, opened(base.reference, data)):
        data.blobs.make_old()
        assert await each.resolve(OWN) == resolved
        assert not layers & data.blobs.old()
        data.blobs.lose(min(layers))
        assert await each.resolve(OWN) == resolved
        check(resolved, data)
