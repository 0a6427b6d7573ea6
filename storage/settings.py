"""The storage's settings: data that `registry.settings` reads once and passes in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from storage.section import Secret, Section
from storage.text import redact

MAX_LINK_SECONDS = 7 * 24 * 3600
"""The longest validity of a link signed with AWS Signature Version 4."""

# The password must not contain what would hide its end from `redact`, which does not find `?password=` at all.
_DATABASE = re.compile(r"""(?:sqlite|postgres(?:ql)?)(?:\+[a-z0-9]+)?://(?:[^/@?#\s"']*@)?(?!\S*password=)[^@\s"']*""")
_ENDPOINT = re.compile(r"""https?://[^/@?#\s"']+(?:/[^@?#\s"']*)?""")


class StorageSettings(Section):
    """Where bytes and facts are kept. Blobs are files in the data directory unless a bucket is set."""

    data_directory: Path = Field(
        description="Directory of everything that condery stores: database, blobs, fragments, downloaded packages."
    )
    database: Annotated[str | None, Secret(redact)] = Field(
        None,
        description="Address of the database, postgresql://USER:PASSWORD@HOST/NAME; when unset, the SQLite file "
        "condery.sqlite in the data directory.",
    )
    s3_bucket: str | None = Field(
        None,
        min_length=1,
        description="Bucket of an S3 store that holds the blobs; when unset, blobs are files in the data directory.",
    )
    s3_prefix: str = Field("", description="Prefix of the keys of all objects in the bucket, such as condery/.")
    s3_endpoint: str | None = Field(None, description="URL at which condery reaches the S3 store; AWS when unset.")
    s3_public_endpoint: str | None = Field(
        None, description="URL at which clients reach the S3 store, used in redirects; s3_endpoint when unset."
    )
    s3_region: str | None = Field(
        None, description="Region of the bucket; when unset, the one that boto3 is configured with, or us-east-1."
    )
    s3_credentials: Path | None = Field(
        None,
        description='File with the access key and the secret key, one per line or as {"access_key": ..., '
        '"secret_key": ...}; when unset, boto3 looks for them in its usual places.',
    )
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Place of the bucket in the store's URLs: path, or virtual (in the host name). auto means virtual "
        "at AWS and path elsewhere.",
    )
    s3_proxy: bool = Field(
        False,
        description="Whether condery sends the bytes of blobs itself; otherwise it redirects clients to the store.",
    )
    s3_link_seconds: int = Field(
        300,
        ge=1,
        le=MAX_LINK_SECONDS,
        description="Seconds for which a presigned URL that a client is redirected to is valid.",
    )

    uploads_per_caller: int = Field(
        1000,
        ge=1,
        description="Maximum number of uploads that one caller has begun and neither finished nor given up; more are "
        "answered 429. A caller is an account, or an address that is not signed in; an IPv6 /64 network counts as one.",
    )

    @field_validator("database")
    @classmethod
    def _is_database(cls, value: str | None) -> str | None:
        if value is not None and not _DATABASE.fullmatch(value):
            raise ValueError(
                "must be postgresql://USER:PASSWORD@HOST/NAME or sqlite:///PATH; write characters of the password "
                "other than letters and digits as %XX, and put no password after a '?'"
            )
        return value

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str | None) -> str | None:
        if value is not None and not _ENDPOINT.fullmatch(value):
            raise ValueError("must be an address such as https://s3.example.org, without a user or a query")
        return value
