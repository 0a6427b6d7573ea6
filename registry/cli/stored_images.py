"""Finds what the local store has of an image's name, whatever the settings of the server were that made it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from storage.errors import ConderyError

if TYPE_CHECKING:
    from builder.names.spec import EnvironmentSpec
    from builder.settings import BuilderSettings
    from storage.catalog.locks import Resolution
    from storage.store import Store

MOST_SPECS = 1000
"""Specs of one set of packages, each with other channels or platforms."""

_OF_ENVIRONMENT = re.compile(r"(?:(?:localhost|[^/:]*[.:][^/]*)/)?(?P<repository>[^/:]+/[^/:]+)(?::(?P<tag>[^/:]+))?")


class EnvironmentNotBuilt(ConderyError):
    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"{image}: {reason}")


async def find_lock_of_environment(image: str, store: Store) -> str | None:
    """The lock of `[HOST/]NAMESPACE/NAME[:TAG]`, or None if there is no such environment.

    Raises EnvironmentNotBuilt if no build answers to the tag.
    """
    named = _OF_ENVIRONMENT.fullmatch(image)
    if named is None or await store.environments.environments.find_of_repository(named["repository"]) is None:
        return None
    tag = named["tag"] or "latest"
    build = await store.environments.builds.find_for_tag(named["repository"], tag)
    if build is None:
        raise EnvironmentNotBuilt(image, f"no build of it has the tag {tag}; `condery build list` has them")
    if build.lock_key is None or build.image_key is None:
        said = f": {build.status_info}" if build.status_info else ""
        raise EnvironmentNotBuilt(image, f"build {build.id} is {build.status}{said}")
    return build.lock_key


async def find_resolution_elsewhere(
    repository: str, tag: str, spec: EnvironmentSpec, settings: BuilderSettings, store: Store
) -> Resolution | None:
    """The last lock that the name was solved to by a server with other channels or platforms."""
    until = spec.until.isoformat() if spec.until else None
    found = [
        await store.catalog.locks.find_newest_resolution(stored.key, until)
        async for stored in _list_specs(spec, store)
        if is_meant(repository, tag, stored, settings)
    ]
    return max(filter(None, found), key=lambda each: each.solved, default=None)


def is_meant(repository: str, tag: str, stored: EnvironmentSpec, settings: BuilderSettings) -> bool:
    """Whether there are settings by which the name means a spec: its last channels may be a server's own."""
    from builder.errors import InvalidImageName
    from builder.names import image_name

    wanted, today = replace(stored, until=None, owner=""), datetime.now(UTC).date()
    for own in _list_ends(stored.channels):
        update = {"channels": own, "platforms": stored.platforms, "prefix": stored.prefix}
        try:
            meant = image_name.parse(repository, tag, settings.model_copy(update=update), today=today).spec
        except InvalidImageName:
            continue
        if replace(meant, until=None) == wanted:
            return True
    return False


def _list_ends(channels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield from (channels[first:] for first in range(len(channels) + 1))


async def _list_specs(spec: EnvironmentSpec, store: Store) -> AsyncIterator[EnvironmentSpec]:
    """The specs of stored locks that want the same packages."""
    from builder.names.spec import EnvironmentSpec

    # a lock's document begins with its spec, and that with its packages
    document = spec.to_json()
    begins = json.dumps({"spec": {name: document[name] for name in ("format", "items")}}).removesuffix("}}")
    for text in await store.catalog.locks.list_specs(begins, MOST_SPECS):
        yield EnvironmentSpec.from_json(json.loads(text)["spec"])
