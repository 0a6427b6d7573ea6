"""The tests' S3 server: it serves what was put, across restarts, and can be made to fail."""

from __future__ import annotations

import botocore.exceptions
import pytest

from tests.support.servers.s3_server import S3Server

pytestmark = pytest.mark.services

IMPATIENT = {"retries": {"total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 1}


def test_an_object_put_is_read_again(s3_server: S3Server) -> None:
    client, bucket = s3_server.client(), s3_server.new_bucket()
    client.put_object(Bucket=bucket, Key="a/b", Body=b"content")
    assert client.get_object(Bucket=bucket, Key="a/b", Range="bytes=3-")["Body"].read() == b"tent"


def test_other_keys_are_refused(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    client = s3_server.client()
    client._request_signer._credentials.secret_key = "another-secret-key"
    with pytest.raises(botocore.exceptions.ClientError):
        client.list_objects_v2(Bucket=bucket)


def test_every_bucket_is_new(s3_server: S3Server) -> None:
    one, two = s3_server.new_bucket(), s3_server.new_bucket()
    client = s3_server.client()
    client.put_object(Bucket=one, Key="key", Body=b"")
    assert "Contents" not in client.list_objects_v2(Bucket=two)


def test_objects_outlive_a_killed_server(s3_server: S3Server) -> None:
    client, bucket = s3_server.client(**IMPATIENT), s3_server.new_bucket()
    client.put_object(Bucket=bucket, Key="key", Body=b"content")
    s3_server.kill()
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        client.head_object(Bucket=bucket, Key="key")
    s3_server.restart()
    assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"content"


def test_a_hanging_server_answers_nothing_until_it_goes_on(s3_server: S3Server) -> None:
    client, bucket = s3_server.client(**IMPATIENT), s3_server.new_bucket()
    with s3_server.hanging(), pytest.raises(botocore.exceptions.ReadTimeoutError):
        client.list_objects_v2(Bucket=bucket)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
