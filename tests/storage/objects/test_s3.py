"""Objects in S3: links, what is told of failures, and a store that goes away at every point."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from storage.errors import StorageError, StorageFull, StorageUnavailable
from storage.objects import s3_bucket
from storage.objects.protocol import ObjectPart, ObjectWriter, new_key
from storage.objects.s3 import S3Objects
from storage.objects.s3_bucket import S3Location
from storage.objects.segments import read_segment
from tests.support.servers.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.servers.s3_server import SECRET_KEY, S3Server
from tests.support.servers.s3_server import s3_server as run_s3_server
from tests.support.small_disk import small_disk
from tests.support.storage.s3_buckets import location, names_in
from tests.support.storage.s3_objects import CONTENT, PART, fails_when_full, read, write_object

pytestmark = pytest.mark.services
LONG = 48 << 20
"""More than the buffers between a server and a reader take."""


@pytest.fixture
def where(s3_server: S3Server) -> S3Location:
    return location(s3_server, prefix="condery/", part_size=PART)


@pytest.fixture
def store(where: S3Location) -> S3Objects:
    return S3Objects(where)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[CuttingProxy]:
    with cutting_proxy(s3_server.port) as proxy:
        yield proxy


# links


def test_a_link_gives_anybody_the_bytes_as_their_media_type(store: S3Objects) -> None:
    key = write_object(store, CONTENT)
    link = store.link(key, media_type="application/vnd.oci.image.layer.v1.tar+gzip")
    assert link is not None
    found = requests.get(link, timeout=30)
    assert (found.status_code, found.content) == (200, CONTENT)
    assert found.headers["Content-Type"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    ranged = requests.get(link, headers={"Range": "bytes=5-9"}, timeout=30)
    assert ranged.content == CONTENT[5:10]


def test_a_link_is_for_one_object_and_not_for_writing(store: S3Objects) -> None:
    key, other = write_object(store, b"content"), write_object(store, b"other")
    link = store.link(key, media_type="text/plain")
    assert link is not None
    assert requests.get(link.replace(store.name(key), store.name(other)), timeout=30).status_code >= 400
    assert requests.put(link, data=b"changed", timeout=30).status_code >= 400
    assert requests.delete(link, timeout=30).status_code >= 400
    assert read(store, key, 7) == b"content"


def test_a_link_expires(where: S3Location) -> None:
    store = S3Objects(dataclasses.replace(where, link_seconds=1))
    link = store.link(write_object(store, b"content"), media_type="text/plain")
    assert link is not None
    time.sleep(2.1)
    assert requests.get(link, timeout=30).status_code >= 400


def test_a_link_leads_to_the_public_endpoint(s3_server: S3Server, where: S3Location) -> None:
    public = f"http://localhost:{s3_server.port}"
    store = S3Objects(dataclasses.replace(where, public_endpoint=public))
    link = store.link(write_object(store, b"content"), media_type="text/plain")
    assert link is not None
    assert link.startswith(f"{public}/{where.bucket}/condery/")
    assert requests.get(link, timeout=30).content == b"content"


def test_a_link_has_the_bucket_where_it_is_wanted(where: S3Location) -> None:
    where = dataclasses.replace(where, public_endpoint="https://s3.example.org", addressing="virtual", link_seconds=7)
    link = urlsplit(str(S3Objects(where).link("0123", media_type="text/plain")))
    assert (link.hostname, link.path) == (f"{where.bucket}.s3.example.org", "/condery/01/0123")
    assert parse_qs(link.query)["X-Amz-Expires"] == ["7"]


def test_where_bytes_are_to_be_proxied_there_are_no_links(where: S3Location) -> None:
    assert S3Objects(dataclasses.replace(where, proxy=True)).link("k", media_type="a/b") is None


# failures and what is told of them


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bucket": "there-is-none"}, "S3 bucket there-is-none.*: NoSuchBucket"),
        ({"bucket": "No Bucket"}, 'Invalid bucket name "No Bucket"'),
        ({"access_key": "UNKNOWNACCESSKEY"}, "InvalidAccessKeyId"),
        ({"secret_key": "some-other-secret"}, "SignatureDoesNotMatch"),
        ({"endpoint": "http://127.0.0.1:1"}, "cannot be reached: Connection refused"),
        ({"endpoint": "http://there-is-none.invalid"}, "cannot be reached: "),
    ],
)
def test_a_store_that_cannot_be_used_says_why(where: S3Location, changes: dict[str, Any], says: str) -> None:
    store = S3Objects(dataclasses.replace(where, **changes))
    with pytest.raises(StorageUnavailable, match=says) as caught:
        store.check()
    assert not re.search("secret", str(caught.value))


WITHOUT_CREDENTIALS = """
from storage.objects.s3 import S3Objects
from storage.objects.s3_bucket import S3Location
S3Objects(S3Location("bucket", endpoint="http://127.0.0.1:1")).check()
"""


def test_missing_credentials_are_told(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CREDENTIALS],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert "StorageUnavailable: " in done.stderr
    assert "no credentials were found; set s3_credentials" in done.stderr


def test_boto3_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys; from storage.objects.s3 import S3Objects; assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=True)


def test_the_secret_is_in_no_text(where: S3Location) -> None:
    assert SECRET_KEY not in repr(where)
    bucket = s3_bucket.Bucket(where)
    assert SECRET_KEY not in bucket._hide_secret(f"the server said {SECRET_KEY}")


def test_a_full_disk_fails_and_nothing_stays(tmp_path: Path) -> None:
    """That it is full rclone does not say."""
    with small_disk(tmp_path / "small", 12) as directory, run_s3_server(directory) as server:
        fails_when_full(server, StorageError)


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        ("InsufficientStorage", "", 507),
        ("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.", 507),
        ("QuotaExceeded", "", 403),
        ("InternalError", "write /data/x: no space left on device", 500),
    ],
)
def test_words_for_a_full_store(where: S3Location, code: str, message: str, status: int) -> None:
    assert isinstance(s3_bucket.Bucket(where)._error_of(code, message, status), StorageFull)


# a store that goes away


def unusable(action: Callable[[], object]) -> None:
    with pytest.raises(StorageUnavailable):
        action()


def write_all(writer: ObjectWriter, content: bytes) -> None:
    writer.write(content)
    writer.commit()


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_a_store_that_dies_while_an_object_is_written(
    s3_server: S3Server, where: S3Location, store: S3Objects, size: int
) -> None:
    key = new_key()
    writer = store.writer(key)
    writer.write(CONTENT[:size])
    s3_server.kill()
    unusable(lambda: write_all(writer, CONTENT))
    writer.abort()
    s3_server.restart()
    store.delete([key])
    assert names_in(s3_server, where) == set()
    assert read(store, write_object(store, CONTENT), len(CONTENT)) == CONTENT


@pytest.mark.parametrize("size", [0, 10, 2 * PART])
def test_a_store_that_dies_before_the_commit(
    s3_server: S3Server, where: S3Location, store: S3Objects, size: int
) -> None:
    key = new_key()
    writer = store.writer(key)
    writer.write(CONTENT[:size])
    s3_server.kill()
    unusable(writer.commit)
    writer.abort()
    s3_server.restart()
    store.delete([key])
    assert names_in(s3_server, where) == set()


def test_a_store_that_dies_while_an_object_is_read(s3_server: S3Server, where: S3Location) -> None:
    store = S3Objects(dataclasses.replace(where, part_size=64 << 20))
    key = write_object(store, bytes(LONG))
    [segment] = store.segments(key, 0, LONG)
    chunks = read_segment(segment)
    next(chunks)
    s3_server.kill()
    unusable(lambda: list(chunks))
    s3_server.restart()
    assert read(store, key, LONG) == bytes(LONG)


def test_a_dead_store_fails_everything(s3_server: S3Server, store: S3Objects) -> None:
    part = ObjectPart(write_object(store, CONTENT[:PART]), PART)
    s3_server.kill()
    unusable(store.check)
    unusable(lambda: write_object(store, b"content"))
    unusable(lambda: read(store, part.key, 5))
    unusable(lambda: store.delete([part.key]))
    unusable(lambda: store.concatenate(new_key(), [part, part]))
    s3_server.restart()
    store.check()
    assert read(store, part.key, PART) == CONTENT[:PART]


def test_a_store_that_hangs_is_not_waited_for(
    s3_server: S3Server, where: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONNECT_SECONDS", "READ_SECONDS", "LONG_READ_SECONDS", "SHORT_SECONDS"):
        monkeypatch.setattr(s3_bucket, name, 0.5)
    store = S3Objects(where)
    begun, key = store.writer(new_key()), new_key()
    begun.write(CONTENT)
    with s3_server.hanging():
        unusable(store.check)
        unusable(lambda: write_object(store, CONTENT))
        unusable(lambda: read(store, key, 5))
        unusable(begun.commit)
        begun.abort()
    with pytest.raises(StorageError, match="are gone"):
        read(store, key, 5)


def test_reading_goes_on_where_a_connection_broke(where: S3Location, proxy: CuttingProxy) -> None:
    store = S3Objects(dataclasses.replace(where, endpoint=proxy.url))
    key = write_object(store, CONTENT)
    proxy.cut(f"GET /{where.bucket}/{store.name(key)}".encode(), after=3 << 20)
    assert read(store, key, len(CONTENT)) == CONTENT
    assert proxy.cuts == 1


@pytest.mark.parametrize(("size", "request_line"), [(10, b"PUT /"), (3 * PART, b"POST /%s?uploadId=")])
def test_an_object_is_whole_when_the_answer_to_its_commit_was_lost(
    s3_server: S3Server, where: S3Location, proxy: CuttingProxy, size: int, request_line: bytes
) -> None:
    store = S3Objects(dataclasses.replace(where, endpoint=proxy.url))
    key = new_key()
    writer = store.writer(key)
    writer.write(CONTENT[:size])
    name = f"{where.bucket}/{store.name(key)}".encode()
    proxy.cut(request_line % name if b"%" in request_line else request_line + name)
    writer.commit()
    assert proxy.cuts == 1
    assert read(store, key, size) == CONTENT[:size]
    assert names_in(s3_server, where) == {key}


def test_a_store_that_cannot_copy_is_asked_once(s3_server: S3Server, where: S3Location, store: S3Objects) -> None:
    parts = [ObjectPart(write_object(store, CONTENT[:PART]), PART) for _ in range(2)]
    asked: list[str] = []
    store._bucket._patient.meta.events.register("before-call.s3.UploadPartCopy", lambda **_: asked.append("copy"))
    for _ in range(2):
        key = new_key()
        store.concatenate(key, parts)
        assert read(store, key, 2 * PART) == CONTENT[:PART] * 2
    assert len(asked) == 2
    assert not [name for name in names_in(s3_server, where) if name.startswith("upload")]
