"""Blobs: what is put comes back, joins are blobs, and nothing half-written is ever visible."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.blobs import FileBlobStore, FragmentPart, cut
from storage.digest import Digest
from storage.errors import BlobUnknown, DigestInvalid, DigestMismatch, StorageFull
from storage.files import TEMPORARY, atomic_write, remove_leftovers


@pytest.fixture
def store(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path)


def fragment(store: FileBlobStore, key: str, data: bytes) -> FragmentPart:
    path = store.fragment_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return FragmentPart(key, len(data))


def test_what_is_put_comes_back(store: FileBlobStore) -> None:
    data = b"x" * 3_000_000
    digest = Digest.of(data)
    assert store.put(digest, [data[:10], data[10:]]) == len(data)
    assert store.size(digest) == len(data)
    assert b"".join(store.read(digest)) == data


def test_sha512(store: FileBlobStore) -> None:
    digest = Digest.parse("sha512:" + hashlib.sha512(b"abc").hexdigest())
    store.put(digest, [b"abc"])
    assert b"".join(store.read(digest)) == b"abc"


def test_a_lying_digest_stores_nothing(store: FileBlobStore) -> None:
    digest = Digest.of(b"something else")
    with pytest.raises(DigestMismatch):
        store.put(digest, [b"abc"])
    with pytest.raises(BlobUnknown):
        store.size(digest)
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_an_interrupted_put_stores_nothing(store: FileBlobStore) -> None:
    def content() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionResetError

    digest = Digest.of(b"abcdef")
    with pytest.raises(ConnectionResetError):
        store.put(digest, content())
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"abc")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="no space left"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{TEMPORARY}abc-file").write_bytes(b"half")
    (tmp_path / "deep" / "whole").write_bytes(b"whole")
    assert remove_leftovers(tmp_path) == 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["whole"]


@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=6), data=st.data())
def test_a_join_is_a_blob(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], data: st.DataObject) -> None:
    store = FileBlobStore(tmp_path_factory.mktemp("store"))
    whole = b"".join(parts)
    digest = Digest.of(whole)
    stored = [
        fragment(store, f"{number:064x}", part) if data.draw(st.booleans()) else part
        for number, part in enumerate(parts)
    ]
    assert store.put_join(digest, stored) == len(whole)
    assert store.size(digest) == len(whole)
    assert b"".join(store.read(digest)) == whole
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    segments = store.segments(digest, start, stop)
    found = b"".join(
        segment if isinstance(segment, bytes) else segment.path.read_bytes()[segment.offset :][: segment.length]
        for segment in segments
    )
    assert found == whole[start:stop]


@given(parts=st.lists(st.binary(max_size=20), max_size=6), start=st.integers(0, 130), stop=st.integers(0, 130))
def test_cut_is_slicing(parts: list[bytes], start: int, stop: int) -> None:
    assert b"".join(s for s in cut(parts, start, stop) if isinstance(s, bytes)) == b"".join(parts)[start:stop]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:ABC",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_malformed_digests(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)
