"""Locations in a test's S3 server, and what they contain."""

from __future__ import annotations

import contextlib
from typing import Any

from botocore.exceptions import ClientError

from storage.objects.s3_bucket import S3Location
from tests.support.servers.s3_server import ACCESS_KEY, REGION, SECRET_KEY, S3Server


def location(server: S3Server, **changes: Any) -> S3Location:
    """A new bucket of `server`, unless one is given."""
    fields = {"endpoint": server.url, "region": REGION, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    if "bucket" not in changes:
        fields["bucket"] = server.new_bucket()
    return S3Location(**{**fields, **changes})


def names_in(server: S3Server, where: S3Location) -> set[str]:
    """Keys of the objects at `where`, and `upload of NAME` for unfinished multipart uploads."""
    client = server.client()
    names = set()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=where.bucket):
        for each in page.get("Contents", ()):
            name = each["Key"]
            key = name.rpartition("/")[2]
            assert name == f"{where.prefix}{key[:2]}/{key}"
            names.add(key)
    # rclone answers with an error if there are none
    with contextlib.suppress(ClientError):
        found = client.list_multipart_uploads(Bucket=where.bucket)
        names |= {f"upload of {each['Key']}" for each in found.get("Uploads", ())}
    return names
