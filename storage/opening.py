"""From settings to the object store."""

from __future__ import annotations

from storage.objects import FileObjects, ObjectStore
from storage.settings import StorageSettings


def open_objects(settings: StorageSettings) -> ObjectStore:
    """Files of the data directory, or the bucket that is set."""
    return FileObjects(settings.data_directory / "blobs")
