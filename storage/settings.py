"""The storage's settings: data that is read once by `registry.settings` and passed in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

MAX_LINK_SECONDS = 7 * 24 * 3600
"""The longest that a link signed by AWS's Signature Version 4 may be good for."""

# No character in the password that would keep `redact` from finding its end; `?password=` it would not find at all.
_DATABASE = re.compile(r"""(?:sqlite|postgres(?:ql)?)(?:\+[a-z0-9]+)?://(?:[^/@?#\s"']*@)?(?!\S*password=)[^@\s"']*""")
_ENDPOINT = re.compile(r"""https?://[^/@?#\s"']+(?:/[^@?#\s"']*)?""")


class StorageSettings(BaseModel):
    """Where bytes and facts are kept. Blobs are files of the data directory unless there is a bucket."""

    model_config = ConfigDict(frozen=True)

    data_directory: Path = Field(
        description="directory of everything condery stores: blobs, fragments, downloaded archives, the database"
    )
    database: str | None = Field(
        None,
        description="postgresql://USER:PASSWORD@HOST/NAME; condery.sqlite in the data directory when unset",
    )
    s3_bucket: str | None = Field(None, min_length=1, description="bucket of an S3 store that holds the blobs")
    s3_prefix: str = Field("", description="what the names of all objects in the bucket begin with, such as condery/")
    s3_endpoint: str | None = Field(None, description="address of the S3 store as condery reaches it; AWS when unset")
    s3_public_endpoint: str | None = Field(
        None, description="address of the S3 store as clients reach it, for links; s3_endpoint when unset"
    )
    s3_region: str | None = Field(
        None, description="the bucket's region; what boto3 is configured with, or us-east-1, when unset"
    )
    s3_credentials: Path | None = Field(
        None,
        description='file with access key and secret key, a line each or as {"access_key": ..., "secret_key": ...}; '
        "when unset they are searched for as boto3 does",
    )
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="where addresses have the bucket: path, host name (virtual); auto is path but at AWS"
    )
    s3_proxy: bool = Field(False, description="send the bytes of blobs ourselves instead of redirecting to the store")
    s3_link_seconds: int = Field(
        300,
        ge=1,
        le=MAX_LINK_SECONDS,
        description="seconds for which the address is good that a client is redirected to",
    )

    @field_validator("database")
    @classmethod
    def _is_database(cls, value: str | None) -> str | None:
        if value is not None and not _DATABASE.fullmatch(value):
            raise ValueError(
                "must be postgresql://USER:PASSWORD@HOST/NAME or sqlite:///PATH, other characters than letters and "
                "digits in the password as %XX, and no password behind a '?'"
            )
        return value

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str | None) -> str | None:
        if value is not None and not _ENDPOINT.fullmatch(value):
            raise ValueError("must be an address such as https://s3.example.org, without a user or a query")
        return value
