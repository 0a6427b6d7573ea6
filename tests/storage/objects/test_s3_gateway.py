"""What S3 servers do that rclone's does not: they copy parts, and say when they are full."""

from __future__ import annotations

from pathlib import Path

from storage.errors import StorageFull
from storage.objects.protocol import ObjectPart, new_key
from storage.objects.s3 import S3Objects
from tests.support.servers.s3_gateway import S3Gateway
from tests.support.servers.s3_gateway import s3_gateway as run_s3_gateway
from tests.support.small_disk import small_disk
from tests.support.storage.s3_buckets import location
from tests.support.storage.s3_objects import CONTENT, PART, fails_when_full, read, write_object


def test_parts_are_copied_by_the_store(s3_gateway: S3Gateway) -> None:
    store = S3Objects(location(s3_gateway, part_size=PART))
    parts = [ObjectPart(write_object(store, CONTENT[:size]), size) for size in (2 * PART, 100, 2 * PART)]
    received: list[int] = []
    client = store._bucket._patient
    client.meta.events.register(
        "after-call.s3.UploadPartCopy", lambda http_response, **_: received.append(http_response.status_code)
    )
    key = new_key()
    store.concatenate(key, parts)
    assert received == [200, 200]
    assert read(store, key, 4 * PART + 100) == CONTENT[: 2 * PART] + CONTENT[:100] + CONTENT[: 2 * PART]


def test_a_full_disk_is_told_and_nothing_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 12) as directory, run_s3_gateway(directory) as server:
        fails_when_full(server, StorageFull)
