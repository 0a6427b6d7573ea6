"""The vocabulary of base images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from storage.digest import Descriptor, Digest


@dataclass(frozen=True)
class BaseLayer:
    """One layer of a base: its blob, under an OCI media type, and the digest of its uncompressed tar."""

    descriptor: Descriptor
    diff_id: Digest

    def to_json(self) -> dict[str, Any]:
        return {"descriptor": self.descriptor.to_json(), "diff_id": self.diff_id}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(Descriptor.from_json(document["descriptor"]), Digest.parse(document["diff_id"]))


@dataclass(frozen=True)
class BaseImage:
    """Everything below the packages, for one platform. All layers' blobs are stored."""

    reference: str
    """Names the base in labels. It never holds a path on this machine, so that equal bases give equal images."""
    digest: Digest | None
    """Digest of what is pinned: an index, manifest, archive config or host layer. None for scratch."""
    platform: str
    """The conda platform."""
    layers: tuple[BaseLayer, ...]
    """Lowest first."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """`config` (Env, Entrypoint, User, ...) and `history` of the base's own image config (image-spec, config.md)."""
    glibc: str | None = None
    """Version of the C library, e.g. `2.36`; None without glibc."""
    has_shell: bool = False
    """Whether /bin/sh exists."""
    bash: str | None = None
    """Absolute path of bash, if it exists."""
    links: tuple[str, ...] = ()
    """Absolute paths of the base's symbolic links, sorted."""

    @property
    def shell(self) -> str | None:
        """Absolute path of a shell, bash if it exists."""
        return self.bash or ("/bin/sh" if self.has_shell else None)

    def to_json(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "digest": self.digest,
            "platform": self.platform,
            "layers": [layer.to_json() for layer in self.layers],
            "config": dict(self.config),
            "glibc": self.glibc,
            "has_shell": self.has_shell,
            "bash": self.bash,
            "links": list(self.links),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            reference=document["reference"],
            digest=Digest.parse(document["digest"]) if document["digest"] else None,
            platform=document["platform"],
            layers=tuple(BaseLayer.from_json(layer) for layer in document["layers"]),
            config=document["config"],
            glibc=document["glibc"],
            has_shell=document["has_shell"],
            bash=document.get("bash"),
            links=tuple(document.get("links", ())),
        )


class Base(Protocol):
    """The source of the lowest layers of every image."""

    @property
    def reference(self) -> str:
        """The setting from which the base was opened."""

    async def resolve(self, platform: str) -> BaseImage:
        """Return the base for the conda platform, with its blobs stored. May be called again, and concurrently.

        The answer stays the same for as long as the base does. Raises BaseUnavailable.
        """
