"""A base image from an OCI layout directory (image-spec, image-layout.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from builder.base.layers import are_stored, read_chunks
from builder.base.oci_image import ImageReader, parse_document, read_descriptors, read_small
from builder.base.vocabulary import BaseImage
from builder.errors import BaseUnavailable
from storage.blobs.blocking import BlockingBlobs
from storage.digest import Descriptor, Digest

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"

Opener = Callable[[str], IO[bytes]]
"""Opens a file of the layout by its path in it. Raises OSError; FileNotFoundError if there is none."""


class OciLayoutBase:
    """A Base from a directory: whatever index.json names at the time of the request."""

    def __init__(self, path: Path, tag: str | None, *, blobs: BlockingBlobs) -> None:
        self.reference = f"oci-layout:{path}" + (f":{tag}" if tag else "")
        self._path = path
        self._tag = tag
        self._blobs = blobs
        self._images: dict[tuple[str, bytes], BaseImage] = {}
        self._reading = asyncio.Lock()

    async def resolve(self, platform: str) -> BaseImage:
        async with self._reading:
            return await asyncio.to_thread(self._resolve, platform)

    def _resolve(self, platform: str) -> BaseImage:
        layout = Layout(self.reference, lambda name: open(self._path / name, "rb"))  # noqa: SIM115 - closed by its reader
        key = (platform, layout.read_index())
        if key not in self._images or not are_stored(self._images[key].layers, self._blobs):
            self._images[key] = layout.read("oci-layout", self._tag, platform, self._blobs)
        return self._images[key]


class Layout:
    """An ImageSource over the files of a layout, in a directory or inside an archive."""

    def __init__(self, base: str, opener: Opener) -> None:
        self._base = base
        self._open = opener

    def read(self, kind: str, tag: str | None, platform: str, blobs: BlockingBlobs) -> BaseImage:
        """Read the image with `tag`, or the only one, for `platform`. Raises BaseUnavailable."""
        index_bytes = self.read_index()
        index = parse_document(self._base, index_bytes)
        reader = ImageReader(self._base, self, blobs)
        reference = f"{kind}:{tag}" if tag else kind
        entry = self._choose(index, tag)
        if entry is None:
            return reader.read(index, platform, reference=reference, digest=Digest.of(index_bytes))
        return reader.read(reader.fetch(entry), platform, reference=reference, digest=entry.digest)

    def read_index(self) -> bytes:
        """Read index.json of a layout of version 1. Raises BaseUnavailable."""
        marker = parse_document(self._base, self._read_small("oci-layout"))
        if not str(marker.get("imageLayoutVersion", "")).startswith("1."):
            raise BaseUnavailable(self._base, "it is not an OCI layout of version 1")
        return self._read_small("index.json")

    def document(self, descriptor: Descriptor) -> bytes:
        return self._read_small(_name_blob(descriptor))

    def blob(self, descriptor: Descriptor) -> Iterable[bytes]:
        with self._open_blob(_name_blob(descriptor)) as file:
            yield from read_chunks(file)

    def _choose(self, index: Mapping[str, Any], tag: str | None) -> Descriptor | None:
        """Return the entry that `tag` names, or the only one; None if the index itself belongs to a single image."""
        entries = read_descriptors(self._base, index.get("manifests"))
        if tag is not None:
            named = [entry for entry in entries if tag in _list_names(entry)]
        elif all(entry.platform and not _list_names(entry) for entry in entries):
            return None
        else:
            named = entries
        if len(named) == 1:
            return named[0]
        names = sorted({name for entry in entries for name in _list_names(entry)})
        raise BaseUnavailable(
            self._base,
            f"it has {len(named)} images{f' called {tag}' if tag else ', choose one with :TAG'}; "
            f"it has {', '.join(names) or 'no tags'}",
        )

    def _read_small(self, name: str) -> bytes:
        with self._open_blob(name) as file:
            return read_small(self._base, name, file)

    def _open_blob(self, name: str) -> IO[bytes]:
        try:
            return self._open(name)
        except FileNotFoundError:
            raise BaseUnavailable(self._base, f"it has no {name}, which an OCI layout must have") from None
        except OSError as error:
            raise BaseUnavailable(self._base, f"its {name} cannot be read: {error.strerror}") from None


def _name_blob(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"


def _list_names(entry: Descriptor) -> set[str]:
    """Return the names of an entry: a tag or a whole reference, depending on who wrote the layout."""
    names = {entry.annotations.get(_REF_NAME), entry.annotations.get(_CONTAINERD_NAME)} - {None, ""}
    return {str(name) for name in names} | {str(name).rpartition(":")[2] for name in names}
