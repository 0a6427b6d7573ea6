"""A base image from a `docker save` file: the classic form (manifest.json) or an OCI layout in a tar."""

from __future__ import annotations

import asyncio
import json
import posixpath
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

import zstandard

from builder.base.layers import LayerWriter, are_stored, open_tar_stream, read_chunks
from builder.base.oci_image import make_base_image, parse_document, read_diff_ids, read_small
from builder.base.oci_layout import Layout
from builder.base.vocabulary import BaseImage, BaseLayer
from builder.errors import BaseUnavailable
from builder.platforms import conda_platform
from storage.blobs.blocking import BlockingBlobs
from storage.digest import Digest


class DockerArchiveBase:
    """A Base from a file. Its layers, which are uncompressed there, are compressed once for each state of the file."""

    def __init__(self, path: Path, tag: str | None, *, blobs: BlockingBlobs, directory: Path) -> None:
        self.reference = f"docker-archive:{path}" + (f":{tag}" if tag else "")
        self._path = path
        self._tag = tag
        self._blobs = blobs
        self._directory = directory
        self._images: dict[tuple[str, int, int, int], BaseImage] = {}
        self._reading = asyncio.Lock()

    async def resolve(self, platform: str) -> BaseImage:
        async with self._reading:
            return await asyncio.to_thread(self._resolve, platform)

    def _resolve(self, platform: str) -> BaseImage:
        try:
            state = self._path.stat()
            key = (platform, state.st_ino, state.st_size, state.st_mtime_ns)
            if key not in self._images or not are_stored(self._images[key].layers, self._blobs):
                with open(self._path, "rb") as file:
                    image = self._read(file, platform)
                self._images.clear()
                self._images[key] = image
            return self._images[key]
        except OSError as error:
            raise BaseUnavailable(self.reference, error.strerror or str(error)) from None

    def _read(self, file: IO[bytes], platform: str) -> BaseImage:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                return self._read_tar(tar, platform)
        except tarfile.TarError as error:
            raise BaseUnavailable(
                self.reference, f"it is not an uncompressed tar file ({error}); if it is a .gz, decompress it first"
            ) from None

    def _read_tar(self, tar: tarfile.TarFile, platform: str) -> BaseImage:
        members = _Members(self.reference, tar)
        if "manifest.json" not in members:
            return Layout(self.reference, members.open).read("docker-archive", self._tag, platform, self._blobs)
        return self._read_classic(members, platform)

    def _read_classic(self, members: _Members, platform: str) -> BaseImage:
        entry = self._choose(members.read_json("manifest.json"))
        config_bytes = members.read_small(entry["Config"])
        config = parse_document(self.reference, config_bytes)
        if (own := conda_platform(config)) != platform:
            if "index.json" in members:  # a containerd store saves all platforms, but manifest.json lists only one
                return Layout(self.reference, members.open).read("docker-archive", self._tag, platform, self._blobs)
            raise BaseUnavailable(self.reference, f"it has no image for {platform}, only for {own}")
        diff_ids = read_diff_ids(self.reference, config)
        names = entry["Layers"]
        if len(names) != len(diff_ids):
            raise BaseUnavailable(self.reference, f"it has {len(names)} layers, its config {len(diff_ids)}")
        layers = tuple(self._take(members, name, diff_id) for name, diff_id in zip(names, diff_ids, strict=True))
        return make_base_image(
            self.reference,
            self._blobs,
            reference=f"docker-archive:{self._tag}" if self._tag else "docker-archive",
            digest=Digest.of(config_bytes),
            platform=platform,
            layers=layers,
            config=config,
        )

    def _choose(self, entries: Any) -> dict[str, Any]:
        """Return the entry of manifest.json that the tag names, or the only one. Raises BaseUnavailable."""
        if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
            raise BaseUnavailable(self.reference, "its manifest.json is malformed")
        tag = self._tag
        found = [entry for entry in entries if tag is None or tag in _list_names(entry)]
        if len(found) == 1:
            return dict(found[0])
        known = ", ".join(sorted(name for entry in entries for name in entry.get("RepoTags") or ())) or "no tags"
        asked = f" called {tag}" if tag else ", choose one with :TAG"
        raise BaseUnavailable(self.reference, f"it has {len(found)} images{asked}; it has {known}")

    def _take(self, members: _Members, name: str, diff_id: Digest) -> BaseLayer:
        """Store one layer, compressed with our codec, whether or not it was compressed before.

        Raises BaseUnavailable.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._directory) as file:
            writer = LayerWriter(file)
            try:
                with members.open_required(name) as raw, open_tar_stream(read_chunks(raw)) as stream:
                    for chunk in read_chunks(stream):
                        writer.write(chunk)
            except (OSError, EOFError, zstandard.ZstdError) as error:
                raise BaseUnavailable(self.reference, f"its layer {name} cannot be read: {error}") from None
            layer = writer.finish()
            if layer.diff_id != diff_id:
                raise BaseUnavailable(self.reference, f"its layer {name} has digest {layer.diff_id}, not {diff_id}")
            file.seek(0)
            self._blobs.put(layer.descriptor.digest, read_chunks(file))
        return layer


class _Members:
    """A tar's files by name. Old dockers wrote links for equal layers; one link is followed."""

    def __init__(self, base: str, tar: tarfile.TarFile) -> None:
        self._base = base
        self._tar = tar
        self._members = {posixpath.normpath(member.name): member for member in tar}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        """Open the file `name`. Raises FileNotFoundError."""
        member = self._members.get(posixpath.normpath(name))
        if member is not None and member.issym():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            member = self._members.get(target)
        if member is not None and member.islnk():
            member = self._members.get(posixpath.normpath(member.linkname))
        file = self._tar.extractfile(member) if member is not None and member.isreg() else None
        if file is None:
            raise FileNotFoundError(name)
        return file

    def open_required(self, name: str) -> IO[bytes]:
        """Open the file `name`, which manifest.json names. Raises BaseUnavailable."""
        try:
            return self.open(name)
        except FileNotFoundError:
            raise BaseUnavailable(self._base, f"it has no {name}, which its manifest.json names") from None

    def read_small(self, name: str) -> bytes:
        with self.open_required(name) as file:
            return read_small(self._base, name, file)

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read_small(name))
        except (ValueError, RecursionError):
            raise BaseUnavailable(self._base, f"its {name} is not JSON") from None


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("Config"), str)
        and isinstance(entry.get("Layers"), list)
        and all(isinstance(layer, str) for layer in entry["Layers"])
        and all(isinstance(tag, str) for tag in entry.get("RepoTags") or ())
    )


def _list_names(entry: dict[str, Any]) -> set[str]:
    tags = entry.get("RepoTags") or ()
    return {*tags, *(tag.rpartition(":")[2] for tag in tags)}
