"""The empty base: no layers, for every platform."""

from __future__ import annotations

from builder.base.vocabulary import BaseImage
from builder.errors import BaseUnavailable
from builder.platforms import oci_platform


class ScratchBase:
    """A Base without layers: the environment needs its own C library."""

    reference = "scratch"

    async def resolve(self, platform: str) -> BaseImage:
        try:
            oci_platform(platform)
        except ValueError as error:
            raise BaseUnavailable(self.reference, str(error)) from None
        return BaseImage(reference=self.reference, digest=None, platform=platform, layers=())
