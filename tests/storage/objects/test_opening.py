"""From settings to an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.objects.files import FileObjects
from storage.objects.opening import CredentialsFileInvalid, open_objects, read_keys
from storage.objects.protocol import new_key, writing
from storage.objects.s3 import S3Objects
from storage.objects.segments import read_segment
from storage.settings import StorageSettings
from tests.support.servers.s3_server import ACCESS_KEY, SECRET_KEY, S3Server


def test_without_a_bucket_blobs_are_files(tmp_path: Path) -> None:
    store = open_objects(StorageSettings(data_directory=tmp_path, s3_endpoint="http://127.0.0.1:1"))
    assert isinstance(store, FileObjects)
    key = new_key()
    with writing(store, key) as writer:
        writer.write(b"content")
    assert (tmp_path / "blobs" / key[:2] / key).read_bytes() == b"content"


@pytest.mark.services
def test_with_a_bucket_they_are_its_objects(tmp_path: Path, s3_server: S3Server) -> None:
    credentials = tmp_path / "keys"
    credentials.write_text(f"{ACCESS_KEY}\n{SECRET_KEY}\n")
    settings = StorageSettings(
        data_directory=tmp_path,
        s3_bucket=s3_server.new_bucket(),
        s3_prefix="images/",
        s3_endpoint=s3_server.url,
        s3_public_endpoint="https://s3.example.org",
        s3_credentials=credentials,
        s3_link_seconds=77,
    )
    store = open_objects(settings)
    assert isinstance(store, S3Objects)
    key = new_key()
    with writing(store, key) as writer:
        writer.write(b"content")
    [segment] = store.segments(key, 0, 7)
    assert b"".join(read_segment(segment)) == b"content"
    link = store.link(key, media_type="text/plain")
    assert link is not None
    assert link.startswith(f"https://s3.example.org/{settings.s3_bucket}/images/{key[:2]}/{key}?")
    assert "X-Amz-Expires=77&" in link


@pytest.mark.parametrize(
    "text", ["KEY\nSECRET\n", "KEY SECRET", '{"access_key": "KEY", "secret_key": "SECRET"}', "\n KEY\n\n SECRET"]
)
def test_forms_of_a_credentials_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    assert read_keys(tmp_path / "keys") == ("KEY", "SECRET")


@pytest.mark.parametrize(
    "text",
    ["", "SECRET", "KEY SECRET TOKEN", '{"access_key": "KEY"}', '{"access_key": 7, "secret_key": "SECRET"}', "{SECRET"],
)
def test_a_credentials_file_that_is_none_is_not_repeated(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(CredentialsFileInvalid, match="it must have the access key and the secret key") as caught:
        read_keys(tmp_path / "keys")
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_credentials_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CredentialsFileInvalid, match="No such file"):
        read_keys(tmp_path / "none")
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(CredentialsFileInvalid, match="it is not text"):
        read_keys(tmp_path / "keys")
