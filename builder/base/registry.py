"""A base image from a registry.

The first pull pins it: later builds use the same bytes, whatever the tag means by then. The pin, and the facts about
each platform, are rows in the database, so that all processes and machines build on the same base. Older versions kept
them in a file, <directory>/<key of the reference>.json. If the database has no pin yet, the pin in such a file is
adopted: an image rebuilt on another base would be another image.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from builder.base.layers import are_stored
from builder.base.oci_image import ImageReader, look_into_base, parse_document
from builder.base.vocabulary import BaseImage
from builder.canonical import make_key
from builder.errors import BaseUnavailable, RemoteUnavailable
from builder.remote.logins import Login
from builder.remote.reference import ImageReference
from storage.blobs.blocking import BlockingBlobs
from storage.digest import Descriptor, Digest
from storage.errors import DigestInvalid
from storage.oci import MANIFEST_TYPES

if TYPE_CHECKING:
    from builder.remote.repository import RemoteRepository

log = structlog.get_logger(__name__)

_FORMAT = 1
"""Part of a pin's key: raise it when the meaning of the kept facts changes."""


class BasePins(Protocol):
    """The digests to which bases are pinned, by the key of their reference; see `storage.catalog.bases.Bases`."""

    async def find(self, key: str) -> Digest | None: ...
    async def pin(self, key: str, reference: str, digest: Digest) -> Digest: ...
    async def find_image(self, key: str, platform: str) -> dict[str, Any] | None: ...
    async def put_image(self, key: str, platform: str, document: Mapping[str, Any]) -> None: ...


class RegistryBase:
    """A Base from a registry. The network is used only for what is not stored yet."""

    def __init__(
        self,
        image: ImageReference,
        *,
        blobs: BlockingBlobs,
        pins: BasePins,
        directory: Path,
        logins: Mapping[str, Login],
        insecure: Collection[str],
    ) -> None:
        self.reference = str(image)
        self._image = image
        self._blobs = blobs
        self._pins = pins
        self._key = make_key("base", [_FORMAT, self.reference])
        self._old_record: Path | None = directory / f"{self._key}.json"
        """The file in which an older version kept the pin; None once it has been read."""
        self._logins = logins
        self._insecure = insecure
        self._pulling = asyncio.Lock()

    async def resolve(self, platform: str) -> BaseImage:
        async with self._pulling:
            pin = await self._find_pin()
            if pin and (image := await self._find_known(pin, platform)):
                return image
            source = _RegistrySource(await asyncio.to_thread(self._open_repository))
            top = await asyncio.to_thread(source.read_top, pin or self._image.target)
            image = await asyncio.to_thread(self._read, source, top, platform)
            # what was read and makes no base is not pinned: the registry's next answer may be right
            pin = pin or await self._pins.pin(self._key, self.reference, top)
            if pin != top:
                image = await asyncio.to_thread(self._read, source, pin, platform)
            await self._pins.put_image(self._key, platform, image.to_json())
            return image

    async def _find_pin(self) -> Digest | None:
        pin = await self._pins.find(self._key)
        if self._old_record:
            pin = await self._take_over(self._old_record, pin)
            self._old_record = None
        return pin

    async def _take_over(self, file: Path, pin: Digest | None) -> Digest | None:
        """Adopt the pin in an older version's file if the database has none. Returns the pin that is valid now."""
        old = await asyncio.to_thread(_read_old_record, file)
        if old is None:
            return pin
        digest, images = old
        if pin is None:
            pin = await self._pins.pin(self._key, self.reference, digest)
        if pin == digest:
            for platform, document in images.items():
                if await self._pins.find_image(self._key, platform) is None:
                    await self._pins.put_image(self._key, platform, document)
            log.info("pin of a base moved from its file to the database", base=self.reference, digest=pin)
        else:
            log.warning(
                "pin of a base in a file dropped: the database has another one, which all processes use",
                base=self.reference,
                dropped=digest,
                digest=pin,
            )
        await asyncio.to_thread(file.unlink, missing_ok=True)
        return pin

    async def _find_known(self, pin: Digest, platform: str) -> BaseImage | None:
        """Return the pinned image, or None if it was never read or parts of it were deleted."""
        document = await self._pins.find_image(self._key, platform)
        if document is None:
            return None
        image = BaseImage.from_json(document)
        # whoever removes a pin by hand may leave its facts behind
        if image.digest != pin or not await asyncio.to_thread(are_stored, image.layers, self._blobs):
            return None
        return image if "links" in document else await self._look_again(image)

    async def _look_again(self, image: BaseImage) -> BaseImage:
        """Return the image with the facts that an older version did not note."""
        facts = await asyncio.to_thread(look_into_base, self.reference, image.layers, self._blobs)
        image = replace(image, bash=facts.bash, links=facts.links)
        await self._pins.put_image(self._key, image.platform, image.to_json())
        return image

    def _read(self, source: _RegistrySource, digest: Digest, platform: str) -> BaseImage:
        if digest not in source.documents:
            source.read_top(digest)
        reader = ImageReader(self.reference, source, self._blobs)
        document = parse_document(self.reference, source.documents[digest])
        return reader.read(document, platform, reference=self.reference, digest=digest)

    def _open_repository(self) -> RemoteRepository:
        """For a thread: it imports the client."""
        from builder.remote.repository import RemoteRepository

        return RemoteRepository(self._image, logins=self._logins, insecure=self._insecure)


class _RegistrySource:
    """An ImageSource over a remote repository. It keeps documents, because the reader asks for them again."""

    def __init__(self, repository: RemoteRepository) -> None:
        self._repository = repository
        self._base = str(repository.reference)
        self.documents: dict[Digest, bytes] = {}

    def read_top(self, target: str) -> Digest:
        """Read the document that a tag or digest names, and return its digest."""
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


def _read_old_record(file: Path) -> tuple[Digest, dict[str, Any]] | None:
    try:
        record = json.loads(file.read_bytes())
        return Digest.parse(record["digest"]), dict(record["platforms"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, DigestInvalid) as error:
        log.warning("pin of a base in a file ignored", file=str(file), reason=str(error))
        return None
