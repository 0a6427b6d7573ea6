"""The bases that images of one server stand on: its own, and those that environments may choose instead."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builder.base.vocabulary import Base, BaseImage
from builder.errors import BaseUnavailable

LOOK_SECONDS = 10.0
"""How old a base may be that is only compared with."""


@dataclass(frozen=True)
class ChosenBases:
    """Resolves bases by what specs call them; an empty name is the server's own."""

    own: Base
    allowed: Mapping[str, Base]
    """By what the settings call them."""
    _images: dict[tuple[str, str], BaseImage] = field(default_factory=dict)
    """Those that are resolved, by the name and the platform."""
    _looked: dict[tuple[str, str], float] = field(default_factory=dict)
    """When they were resolved last (time.monotonic)."""

    async def resolve(self, platforms: Sequence[str], name: str = "") -> dict[str, BaseImage]:
        """The images of a base by platform. Raises BaseUnavailable, also for one that the settings do not allow now."""
        base = self.allowed.get(name) if name else self.own
        if base is None:
            raise BaseUnavailable(
                name,
                "this server does not allow it (allowed_bases); choose another base_image, or ask its administrator",
            )
        found = {platform: await base.resolve(platform) for platform in platforms}
        self._images.update({(name, platform): image for platform, image in found.items()})
        self._looked.update(dict.fromkeys([(name, platform) for platform in found], time.monotonic()))
        return found

    async def look(self, platforms: Sequence[str], name: str = "") -> None:
        """Have `find` return the images of now, give or take LOOK_SECONDS. Raises BaseUnavailable."""
        before = time.monotonic() - LOOK_SECONDS
        await self.resolve([each for each in platforms if self._looked.get((name, each), before) <= before], name)

    def find(self, platforms: Sequence[str], name: str = "") -> dict[str, BaseImage] | None:
        """The images by platform as they were resolved last; None while one of them is not."""
        if not all((name, each) in self._images for each in platforms):
            return None
        return {each: self._images[name, each] for each in platforms}
