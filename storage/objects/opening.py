"""Opens the object store that the settings name."""

from __future__ import annotations

import json
from pathlib import Path

from storage.errors import StorageError
from storage.layout import DataDirectory
from storage.objects.files import FileObjects
from storage.objects.protocol import ObjectStore
from storage.settings import StorageSettings


class CredentialsFileInvalid(StorageError):
    is_mistake = True

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"file {path} of the setting s3_credentials: {reason}")
        self.path = path
        self.reason = reason


def open_objects(settings: StorageSettings, floor: int = 0) -> ObjectStore:
    """Open the configured bucket, or else the data directory's files. Raises CredentialsFileInvalid.

    Files leave the last `floor` bytes of their disk free.
    """
    if settings.s3_bucket is None:
        return FileObjects(DataDirectory(settings.data_directory).blobs, floor)
    from storage.objects.s3 import S3Objects
    from storage.objects.s3_bucket import S3Location

    access_key, secret_key = read_keys(settings.s3_credentials) if settings.s3_credentials else (None, None)
    location = S3Location(
        bucket=settings.s3_bucket,
        prefix=settings.s3_prefix,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        region=settings.s3_region,
        access_key=access_key,
        secret_key=secret_key,
        addressing=settings.s3_addressing,
        link_seconds=settings.s3_link_seconds,
        proxy=settings.s3_proxy,
    )
    return S3Objects(location)


def read_keys(path: Path) -> tuple[str, str]:
    """The access key and the secret key, one per line or as `{"access_key": ..., "secret_key": ...}`."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsFileInvalid(path, getattr(error, "strerror", None) or "it is not text") from None
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else None
        keys = [document["access_key"], document["secret_key"]] if document is not None else text.split()
    except (ValueError, KeyError):
        keys = []
    match keys:
        case [str(access_key), str(secret_key)] if access_key and secret_key:
            return access_key, secret_key
    raise CredentialsFileInvalid(
        path,
        'it must have the access key and the secret key, a line each or as {"access_key": ..., "secret_key": ...}',
    )
