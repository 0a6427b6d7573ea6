"""Objects of an S3 store, written and read whole, and a server whose disk fills up."""

from __future__ import annotations

import dataclasses
import os

import pytest

from storage.errors import StorageError
from storage.objects.protocol import new_key, writing
from storage.objects.s3 import S3Objects
from storage.objects.s3_plan import SMALLEST_PART
from storage.objects.segments import read_segment
from tests.support.servers.s3_server import S3Server
from tests.support.storage.s3_buckets import location, names_in

PART = SMALLEST_PART
CONTENT = os.urandom(3 * PART)


def read(store: S3Objects, key: str, size: int) -> bytes:
    return b"".join(chunk for segment in store.segments(key, 0, size) for chunk in read_segment(segment))


def write_object(store: S3Objects, content: bytes) -> str:
    key = new_key()
    with writing(store, key) as writer:
        writer.write(content)
    return key


def fails_when_full(server: S3Server, error: type[StorageError]) -> None:
    """Check the error on a disk of 12 MiB."""
    where = location(server, part_size=PART)
    store = S3Objects(where)
    kept = write_object(S3Objects(dataclasses.replace(where, part_size=16 << 20)), bytes(9 << 20))
    for size in (PART, 3 * PART):
        with pytest.raises(error):
            write_object(store, CONTENT[:size])
        assert names_in(server, where) == {kept}
    store.delete([kept])
    write_object(store, CONTENT[:PART])
