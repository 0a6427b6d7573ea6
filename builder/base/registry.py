"""A base image of a registry. The first pull pins it: later the same bytes are used, whatever its tag means by then.

<directory>/<key of the reference>.json    the pinned digest, and what was learnt of each platform
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.base.layers import are_stored
from builder.base.oci_image import ImageReader, look_into_base, parse_document
from builder.base.vocabulary import BaseImage
from builder.canonical import key_of
from builder.errors import BaseUnavailable, RemoteUnavailable
from builder.remote.repository import ImageReference, Login, RemoteRepository
from storage.blobs.blocking import BlockingBlobs
from storage.digest import Descriptor, Digest
from storage.disk.files import atomic_write
from storage.oci import MANIFEST_TYPES

_FORMAT = 1
"""Part of a record's key: raise it when a record's meaning changes."""


class RegistryBase:
    """A Base out of a registry; the network is used only for what is not yet stored."""

    def __init__(
        self,
        image: ImageReference,
        *,
        blobs: BlockingBlobs,
        directory: Path,
        logins: Mapping[str, Login],
        insecure: Collection[str],
    ) -> None:
        self.reference = str(image)
        self._image = image
        self._blobs = blobs
        self._directory = directory
        self._record_path = directory / f"{key_of('base', [_FORMAT, self.reference])}.json"
        self._logins = logins
        self._insecure = insecure
        self._pulling = asyncio.Lock()

    async def resolve(self, platform: str) -> BaseImage:
        async with self._pulling:
            return await asyncio.to_thread(self._resolve, platform)

    async def refresh(self) -> Digest:
        """Pin what the tag means now; returns that digest. On failure the old pin stays. Raises BaseUnavailable."""
        async with self._pulling:
            return await asyncio.to_thread(self._refresh)

    def _resolve(self, platform: str) -> BaseImage:
        record = self._read_record()
        if record and platform in record["platforms"]:
            known = record["platforms"][platform]
            image = BaseImage.from_json(known)
            if are_stored(image.layers, self._blobs):
                return image if "links" in known else self._look_again(record, image)
        source = _RegistrySource(self._repository())
        top = source.top(record["digest"] if record else self._image.target)
        if record is None:
            record = self._pin(top)
            if record["digest"] != top:
                top = source.top(record["digest"])
        reader = ImageReader(self.reference, source, self._blobs)
        document = parse_document(self.reference, source.documents[top])
        image = reader.read(document, platform, reference=self.reference, digest=top)
        record["platforms"][platform] = image.to_json()
        self._write_record(record)
        return image

    def _look_again(self, record: dict[str, Any], image: BaseImage) -> BaseImage:
        """The image with what was not noted of it when its record was written."""
        facts = look_into_base(self.reference, image.layers, self._blobs)
        image = replace(image, bash=facts.bash, links=facts.links)
        record["platforms"][image.platform] = image.to_json()
        self._write_record(record)
        return image

    def _refresh(self) -> Digest:
        now = _RegistrySource(self._repository()).top(self._image.target)
        record = self._read_record()
        if record is None or record["digest"] != now:
            self._write_record(_new_record(self.reference, now))
        return now

    def _repository(self) -> RemoteRepository:
        return RemoteRepository(self._image, logins=self._logins, insecure=self._insecure)

    def _read_record(self) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self._record_path.read_bytes())
        except FileNotFoundError:
            return None
        return record

    def _write_record(self, record: Mapping[str, Any]) -> None:
        with atomic_write(self._record_path) as file:
            file.write(json.dumps(record, indent=1).encode())

    def _pin(self, digest: Digest) -> dict[str, Any]:
        """The record of the first to pin the reference, of all processes of this data directory."""
        record = _new_record(self.reference, digest)
        mine = self._record_path.with_suffix(f".{os.getpid()}")
        with atomic_write(mine) as file:
            file.write(json.dumps(record).encode())
        try:
            # link, unlike rename, fails where the name is taken
            with contextlib.suppress(FileExistsError):
                os.link(mine, self._record_path)
        finally:
            mine.unlink()
        return self._read_record() or record


class _RegistrySource:
    """An ImageSource of a remote repository; documents once read are kept, being asked for again by the reader."""

    def __init__(self, repository: RemoteRepository) -> None:
        self._repository = repository
        self._base = str(repository.reference)
        self.documents: dict[Digest, bytes] = {}

    def top(self, target: str) -> Digest:
        """Read what a tag or digest names; its digest."""
        with _as_base_error(self._base):
            body, _ = self._repository.manifest(target)
        digest = Digest.parse(target) if ":" in target else Digest.of(body)
        self.documents[digest] = body
        return digest

    def document(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.documents:
            with _as_base_error(self._base):
                self.documents[descriptor.digest] = (
                    self._repository.manifest(descriptor.digest)[0]
                    if descriptor.media_type in MANIFEST_TYPES
                    else self._repository.small_blob(descriptor)
                )
        return self.documents[descriptor.digest]

    def blob(self, descriptor: Descriptor) -> Iterable[bytes]:
        with _as_base_error(self._base):
            yield from self._repository.blob(descriptor)


@contextlib.contextmanager
def _as_base_error(base: str) -> Iterator[None]:
    try:
        yield
    except RemoteUnavailable as error:
        raise BaseUnavailable(base, error.reason) from None


def _new_record(reference: str, digest: Digest) -> dict[str, Any]:
    return {"reference": reference, "digest": digest, "platforms": {}}
