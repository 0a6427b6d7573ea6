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
