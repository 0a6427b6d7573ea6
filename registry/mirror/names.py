"""Maps a name under `mirror/` to a repository of another registry.

    mirror/docker.io/debian                docker.io's library/debian
    mirror/ghcr.io/owner/image             ghcr.io's owner/image
    mirror/localhost_5000/team/app         team/app of the registry at localhost:5000

A repository's name cannot contain a colon, and a host's name cannot contain an underscore.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from registry.mirror.errors import NothingMirrored, NotMirrored
from storage.oci import DOCKER_HUB, DOCKER_HUB_API, DOCKER_HUB_NAMES, LONGEST_REPOSITORY, MIRROR_ROOT

PREFIX = MIRROR_ROOT

_HOST = re.compile(r"[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?::[0-9]{1,5})?")
_WRITTEN_PORT = re.compile(r"_([0-9]{1,5})\Z")


@dataclass(frozen=True, slots=True)
class Source:
    """A repository of another registry: `registry` as in the settings, and its name there."""

    registry: str
    repository: str

    @property
    def scope(self) -> str:
        """The repository that holds the copy here."""
        return self.siblings + self.repository

    @property
    def siblings(self) -> str:
        """The beginning of the names of all copies from the same registry."""
        return f"{PREFIX}/{self.registry.replace(':', '_')}/"

    @property
    def api(self) -> str:
        """The host and port of the registry's API."""
        return DOCKER_HUB_API if self.registry == DOCKER_HUB else self.registry

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


def is_mirror(repository: str) -> bool:
    """Whether the name is reserved for copies, even of registries not mirrored now: a push there could become one."""
    return repository == PREFIX or repository.startswith(f"{PREFIX}/")


def check_host(text: str) -> str:
    """Check a host from the settings, with or without a port; raises ValueError."""
    text = text.strip().lower()
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text!r} is not a host such as registry.example.org or localhost:5000")
    return text


def check_registry(text: str) -> str:
    """The single name under which a registry of the settings is known here; raises ValueError."""
    host = check_host(text)
    return DOCKER_HUB if host in DOCKER_HUB_NAMES else host


def source_of(repository: str, registries: Collection[str]) -> Source:
    """The source of the name `repository`; raises NotMirrored unless it belongs to one of `registries`."""
    _, _, rest = repository.partition("/")
    host, _, name = rest.partition("/")
    registry = _WRITTEN_PORT.sub(r":\1", host)
    if registry in DOCKER_HUB_NAMES:
        registry = DOCKER_HUB
    if registry not in registries:
        raise _not_mirrored(registry, registries)
    if not name:
        raise NotMirrored(f"{repository} names no repository: write {PREFIX}/{host}/NAME")
    if registry == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    source = Source(registry, name)
    if len(source.scope) > LONGEST_REPOSITORY:
        raise NotMirrored(f"{source.scope} is longer than the {LONGEST_REPOSITORY} characters that a name may have")
    return source


def _not_mirrored(registry: str, registries: Collection[str]) -> NotMirrored:
    if not registries:
        return NothingMirrored()
    listed = ", ".join(sorted(registries))
    return NotMirrored(
        f"{registry or 'nothing'} is not mirrored here; {listed} {'is' if len(registries) == 1 else 'are'}"
    )
