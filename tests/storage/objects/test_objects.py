"""What every ObjectStore owes: one suite, over files and over S3 servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.disk.files import TEMPORARY
from storage.errors import ObjectMissing, StorageError, StorageFull
from storage.objects.files import FileObjects
from storage.objects.protocol import ObjectPart, ObjectStore, ObjectWriter, new_key, writing
from storage.objects.s3 import S3Objects
from storage.objects.s3_plan import SMALLEST_PART
from storage.objects.segments import Segment, read_segment
from tests.support.servers.s3_server import S3Server
from tests.support.small_disk import small_disk
from tests.support.storage.s3_buckets import location, names_in

PART = SMALLEST_PART
CHUNK = (1 << 20) + 1
CONTENT = os.urandom(4 * PART)


@dataclass(frozen=True)
class Place:
    """A store, and how to look into what it is made of."""

    store: ObjectStore
    names: Callable[[], set[str]]
    """What is there: keys of objects, and of anything else some other name."""


@pytest.fixture(params=["files", pytest.param("rclone", marks=pytest.mark.services), "versitygw"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "files":
        return Place(FileObjects(tmp_path / "blobs"), lambda: files_in(tmp_path / "blobs"))
    server: S3Server = request.getfixturevalue("s3_server" if request.param == "rclone" else "s3_gateway")
    where = location(server, prefix="some/where/", part_size=PART)
    return Place(S3Objects(where), lambda: names_in(server, where))


def files_in(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file()}


def read(store: ObjectStore, key: str, start: int, stop: int) -> bytes:
    return b"".join(chunk for segment in store.segments(key, start, stop) for chunk in read_segment(segment))


def written(store: ObjectStore, content: bytes) -> ObjectPart:
    part = ObjectPart(new_key(), len(content))
    with writing(store, part.key) as writer:
        for start in range(0, len(content), CHUNK):
            writer.write(content[start : start + CHUNK])
    return part


SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, 3 * PART + 12345]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_comes_back(place: Place, size: int) -> None:
    part = written(place.store, CONTENT[:size])
    assert read(place.store, part.key, 0, size) == CONTENT[:size]
    assert place.names() == {part.key}


def test_a_writer_keeps_nothing_of_what_it_is_given(place: Place) -> None:
    buffer = bytearray(CONTENT[:PART])
    key = new_key()
    with writing(place.store, key) as writer:
        writer.write(b"")
        for _ in range(2):
            writer.write(buffer)
            writer.write(memoryview(buffer)[:100])
            buffer[:] = bytes(len(buffer))
        assert writer.size == 2 * (PART + 100)
    assert read(place.store, key, 0, PART + 100) == CONTENT[:PART] + CONTENT[:100]
    assert read(place.store, key, PART + 100, 2 * (PART + 100)) == bytes(PART + 100)


@pytest.mark.parametrize("size", [10, 2 * PART + 10])
def test_nothing_is_to_be_seen_before_the_commit(place: Place, size: int) -> None:
    key = new_key()
    writer = place.store.writer(key)
    writer.write(CONTENT[:size])
    with pytest.raises(ObjectMissing):
        read(place.store, key, 0, size)
    writer.commit()
    assert read(place.store, key, 0, size) == CONTENT[:size]


@pytest.mark.parametrize("size", [0, 10, PART, 2 * PART + 10])
def test_an_aborted_writer_leaves_nothing(place: Place, size: int) -> None:
    writer = place.store.writer(new_key())
    if size:
        writer.write(CONTENT[:size])
    writer.abort()
    writer.abort()
    assert place.names() == set()


def test_a_writer_whose_block_fails_leaves_nothing(place: Place) -> None:
    with contextlib.suppress(KeyboardInterrupt), writing(place.store, new_key()) as writer:
        writer.write(CONTENT[: PART + 1])
        raise KeyboardInterrupt
    assert place.names() == set()


@pytest.mark.parametrize("size", [10, PART + 10])
def test_abort_does_nothing_after_the_commit(place: Place, size: int) -> None:
    key = new_key()
    writer = place.store.writer(key)
    writer.write(CONTENT[:size])
    writer.commit()
    writer.abort()
    assert read(place.store, key, 0, size) == CONTENT[:size]


def test_ranges(place: Place) -> None:
    size = PART + 1000
    part = written(place.store, CONTENT[:size])

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, size), st.integers(0, size))
    def all_of_them(one: int, other: int) -> None:
        start, stop = sorted((one, other))
        segments = place.store.segments(part.key, start, stop)
        assert all(length(segment) for segment in segments)
        assert b"".join(chunk for each in segments for chunk in read_segment(each)) == CONTENT[start:stop]

    def length(segment: Segment) -> int:
        return len(segment) if isinstance(segment, bytes) else segment.length

    all_of_them()


def test_a_segment_can_be_read_again(place: Place) -> None:
    part = written(place.store, b"content")
    [segment] = place.store.segments(part.key, 1, 5)
    assert [b"".join(read_segment(segment)) for _ in range(2)] == [b"onte"] * 2


JOINS: list[Sequence[int]] = [
    [],
    [0],
    [1],
    [0, 3, 0],
    [1, 2, 3],
    [PART],
    [PART, 1],
    [1, PART],
    [PART, PART],
    [2 * PART + 1, 10, 2 * PART],
    [10, 2 * PART, 10, PART - 1, PART + 1, 10],
    [1 << 20] * 12,
]


@pytest.mark.parametrize("sizes", JOINS, ids=str)
def test_a_concatenation_is_that_of_its_parts(place: Place, sizes: Sequence[int]) -> None:
    contents = [CONTENT[index : index + size] for index, size in enumerate(sizes)]
    parts = [written(place.store, content) for content in contents]
    key = new_key()
    place.store.concatenate(key, parts)
    assert read(place.store, key, 0, sum(sizes)) == b"".join(contents)
    assert place.names() == {key, *(part.key for part in parts)}
    assert [read(place.store, part.key, 0, part.size) for part in parts] == contents


def test_a_part_may_be_there_twice(place: Place) -> None:
    part = written(place.store, CONTENT[: PART + 7])
    key = new_key()
    place.store.concatenate(key, [part, part])
    assert read(place.store, key, 0, 2 * part.size) == CONTENT[: part.size] * 2


@pytest.mark.parametrize("sizes", [[10, 10], [PART, PART], [PART, 10, PART]], ids=str)
def test_a_concatenation_with_a_missing_part_leaves_nothing(place: Place, sizes: Sequence[int]) -> None:
    parts = [written(place.store, CONTENT[:size]) for size in sizes]
    place.store.delete([parts[1].key])
    with pytest.raises(ObjectMissing) as caught:
        place.store.concatenate(new_key(), parts)
    assert caught.value.key == parts[1].key
    assert place.names() == {part.key for part in parts} - {parts[1].key}


def test_deletion(place: Place) -> None:
    parts = [written(place.store, CONTENT[:size]) for size in (0, 10, PART + 1)]
    kept = written(place.store, b"kept")
    for _ in range(2):
        place.store.delete([new_key(), *(part.key for part in parts)])
        assert place.names() == {kept.key}
    with pytest.raises(ObjectMissing):
        read(place.store, parts[1].key, 0, 10)
    place.store.delete([])


def test_more_are_deleted_than_one_request_takes(place: Place) -> None:
    part = written(place.store, b"content")
    place.store.delete([*(new_key() for _ in range(1000)), part.key])
    assert place.names() == set()


def test_a_deletion_takes_what_a_dead_writer_left(place: Place) -> None:
    dead: dict[str, ObjectWriter] = {}
    for size in (10, 2 * PART + 10):
        key = new_key()
        dead[key] = place.store.writer(key)
        dead[key].write(CONTENT[:size])
    assert place.names()
    living = place.store.writer(new_key())
    living.write(CONTENT[: 2 * PART])
    place.store.delete(dead)
    for writer in dead.values():
        writer.abort()
    living.write(b"more")
    living.commit()
    assert len(place.names()) == 1


def test_an_object_that_is_not_there(place: Place) -> None:
    key = new_key()
    with pytest.raises(ObjectMissing, match=key) as caught:
        read(place.store, key, 0, 10)
    assert caught.value.key == key


def test_writers_in_many_threads(place: Place) -> None:
    contents = [CONTENT[index : index + (index % 3) * PART + index] for index in range(9)]
    with ThreadPoolExecutor(len(contents)) as threads:
        parts = list(threads.map(lambda content: written(place.store, content), contents))
        found = list(threads.map(lambda part: read(place.store, part.key, 0, part.size), parts))
    assert found == contents
    assert place.names() == {part.key for part in parts}


def test_the_check_leaves_nothing(place: Place) -> None:
    place.store.check()
    assert place.names() == set()


WRITES_MUCH = """
import resource, sys
from pathlib import Path
from storage.objects.files import FileObjects
from storage.objects.protocol import new_key, writing
from storage.objects.s3 import S3Objects
from storage.objects.s3_bucket import S3Location

where = eval(sys.argv[1])
store = FileObjects(where) if isinstance(where, Path) else S3Objects(where)
chunk = bytes(1 << 20)
def write(count):
    with writing(store, new_key()) as writer:
        for _ in range(count):
            writer.write(chunk)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = write(20)
print(write(200) - before)
"""


@pytest.mark.parametrize("kind", ["files", pytest.param("rclone", marks=pytest.mark.services)])
def test_the_memory_of_a_writer_does_not_grow_with_the_object(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "files":
        where = f"Path({str(tmp_path)!r})"
    else:
        server = request.getfixturevalue("s3_server")
        where = repr(location(server)).replace(
            "S3Location(", f"S3Location(secret_key={location(server).secret_key!r}, "
        )
    done = subprocess.run(
        [sys.executable, "-c", WRITES_MUCH, where], cwd=Path(__file__).parents[3], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8 << 20


def test_files_have_no_link(tmp_path: Path) -> None:
    assert FileObjects(tmp_path).link(new_key(), media_type="text/plain") is None


def test_a_full_disk_is_told_and_nothing_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 4) as directory:
        store = FileObjects(directory)
        with pytest.raises(StorageFull):
            written(store, CONTENT[: 6 << 20])
        assert files_in(directory) == set()
        part = written(store, b"fits")
        assert read(store, part.key, 0, 4) == b"fits"


def test_a_folder_that_cannot_be_written_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file")
    with pytest.raises(StorageError):
        FileObjects(tmp_path / "blobs").check()


def test_a_half_written_file_has_a_name_that_shows_it(tmp_path: Path) -> None:
    key = new_key()
    with contextlib.suppress(KeyboardInterrupt), writing(FileObjects(tmp_path), key) as writer:
        writer.write(b"half")
        assert files_in(tmp_path) == {f"{TEMPORARY}{key}"}
        raise KeyboardInterrupt
