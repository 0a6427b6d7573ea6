"""One bucket of an S3 store: requests to it with bounded time, and its errors as ours.

It uses only what AWS and compatible stores (MinIO, Ceph, Garage, SeaweedFS, Google's XML API, rclone) have in common:
no access control lists, no conditions, and no checksums unless the protocol demands one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from storage.errors import ObjectMissing, StorageError, StorageFull, StorageUnavailable
from storage.network.this_machine import is_this_machine
from storage.objects.s3_plan import SMALLEST_PART
from storage.text import Sent, hide

CONNECT_SECONDS = 4
READ_SECONDS = 15
ATTEMPTS = 3
LONG_READ_SECONDS = 60
"""For requests that a store may work on for a while before it answers."""

LONG_ATTEMPTS = 2
SHORT_SECONDS = 3
SHORT_ATTEMPTS = 2
"""For requests that may fail or are soon repeated. Two, since an idle connection may have been closed."""

CONNECTIONS = 64
BATCH = 1000
"""The most keys in one DeleteObjects."""

_FULL = re.compile(r"no space left|disk.?full|storage.?full|insufficient.?storage|quota.?exceeded", re.IGNORECASE)
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
_UNSUPPORTED = frozenset({400, 405, 411, 501})
"""The statuses with which stores refuse an operation that they lack."""

_REASONS = {
    "NoCredentialsError": "no credentials were found; set s3_credentials",
    "PartialCredentialsError": "its credentials are incomplete",
    "ConnectTimeoutError": "it cannot be reached in time",
    "ReadTimeoutError": "it did not answer in time",
    "ConnectionClosedError": "it broke the connection",
    "IncompleteReadError": "it broke the connection",
    "ResponseStreamingError": "it broke the connection",
}


@dataclass(frozen=True)
class S3Location:
    """The place of the objects: `bucket`, with `prefix` before their names.

    `endpoint` is the store's address for us (None: AWS), `public_endpoint` the one for clients (None: the same).
    Without keys, boto3 looks for them in its usual places.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    public_endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    addressing: str = "auto"
    """Where URLs have the bucket: `path`, `virtual` (in the host name), or what boto3 considers best."""

    part_size: int = SMALLEST_PART
    """The size in bytes of a multipart upload's first parts; each of many writers has one part in memory."""

    link_seconds: int = 300
    """How long a link is valid."""

    proxy: bool = False
    """Whether the server sends blobs itself instead of giving out links."""


class Unsupported(StorageError):
    """The store lacks this operation."""


class Bucket:
    """Requests by object name. All raise StorageUnavailable and StorageFull, and may be made from any thread."""

    def __init__(self, location: S3Location) -> None:
        self.location = location
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._session: Any = None

    def put(self, name: str, body: Any) -> None:
        with self._translate_errors():
            self._usual.put_object(Bucket=self.location.bucket, Key=name, Body=body)

    def size(self, name: str, *, hasty: bool = False) -> int | None:
        """The object's size in bytes; None if it does not exist."""
        try:
            with self._translate_errors(name):
                client = self._hasty if hasty else self._usual
                return int(client.head_object(Bucket=self.location.bucket, Key=name)["ContentLength"])
        except ObjectMissing:
            return None

    def get(self, name: str, start: int, stop: int) -> Any:
        """The bytes [start, stop) as a stream to read and close; raises ObjectMissing, also for too short an object."""
        with self._translate_errors(name):
            span = f"bytes={start}-{stop - 1}"
            found = self._usual.get_object(Bucket=self.location.bucket, Key=name, Range=span)
        if found["ContentLength"] != stop - start:
            found["Body"].close()
            raise ObjectMissing(name)
        return found["Body"]

    def read(self, stream: Any, size: int) -> bytes:
        """Read at most `size` bytes from the stream of `get`; never returns empty bytes."""
        with self._translate_errors():
            data: bytes = stream.read(size)
            return data

    def discard(self, name: str) -> None:
        """Delete what a failed request may have left, if that can be done soon."""
        with self._translate_errors():
            self._hasty.delete_object(Bucket=self.location.bucket, Key=name)

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects. Unknown names are ignored."""
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            try:
                self._delete_batch(batch)
            except Unsupported:
                for name in batch:
                    self._delete_one(name)

    def link(self, name: str, media_type: str) -> str:
        """A URL to GET the object with this Content-Type."""
        parameters = {"Bucket": self.location.bucket, "Key": name, "ResponseContentType": media_type}
        with self._translate_errors():
            url: str = self._public.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=self.location.link_seconds
            )
            return url

    def check(self, name: str) -> None:
        """Quickly write, read and delete the object `name`."""
        with self._translate_errors(name):
            self._hasty.put_object(Bucket=self.location.bucket, Key=name, Body=b"condery")
            with contextlib.closing(self._hasty.get_object(Bucket=self.location.bucket, Key=name)["Body"]) as body:
                found = body.read()
            self._hasty.delete_object(Bucket=self.location.bucket, Key=name)
        if found != b"condery":
            raise StorageUnavailable(self._where, "it returned other bytes than were written")

    # multipart uploads

    def begin(self, name: str) -> str:
        """Start a multipart upload and return its id."""
        with self._translate_errors():
            begun = self._usual.create_multipart_upload(Bucket=self.location.bucket, Key=name)
            return str(begun["UploadId"])

    def upload(self, name: str, upload: str, number: int, body: Any) -> str:
        """Send a part and return its ETag."""
        with self._translate_errors():
            sent = self._usual.upload_part(
                Bucket=self.location.bucket, Key=name, UploadId=upload, PartNumber=number, Body=body
            )
            return str(sent["ETag"])

    def copy(self, name: str, upload: str, number: int, source: str, span: tuple[int, int] | None) -> str:
        """Make a part by copying `source` or its bytes [start, stop), and return its ETag. Raises Unsupported."""
        where = {"CopySourceRange": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        with self._translate_errors(source, optional=True):
            copied = self._patient.upload_part_copy(
                Bucket=self.location.bucket,
                Key=name,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self.location.bucket, "Key": source},
                **where,
            )
        # a store that knows no copies takes this for an empty part, and its answer lacks the result of a copy
        if not copied.get("CopyPartResult", {}).get("ETag"):
            raise Unsupported("UploadPartCopy")
        return str(copied["CopyPartResult"]["ETag"])

    def complete(self, name: str, upload: str, etags: Sequence[str], size: int) -> None:
        """Complete the upload: the object exists afterwards, with `size` bytes."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        try:
            with self._translate_errors():
                self._patient.complete_multipart_upload(
                    Bucket=self.location.bucket, Key=name, UploadId=upload, MultipartUpload={"Parts": parts}
                )
        except StorageError:
            # the answer may be lost, or be one to a retry that found the upload already completed
            if self.size(name, hasty=True) != size:
                raise
        else:
            self._verify(name, size)

    def cancel(self, name: str, upload: str) -> None:
        with self._translate_errors(), self._suppress("NoSuchUpload"):
            self._hasty.abort_multipart_upload(Bucket=self.location.bucket, Key=name, UploadId=upload)

    def list_unfinished(self, name: str) -> list[str]:
        """Ids of the unfinished uploads of `name`. Raises Unsupported."""
        found: Any = {}
        # rclone answers NoSuchUpload if there are none; the prefix is the whole name, since MinIO lists by nothing
        # shorter
        with self._translate_errors(optional=True), self._suppress("NoSuchUpload"):
            found = self._usual.list_multipart_uploads(Bucket=self.location.bucket, Prefix=name)
        return [upload["UploadId"] for upload in found.get("Uploads", ()) if upload["Key"] == name]

    def _delete_batch(self, names: Sequence[str]) -> None:
        request = {"Objects": [{"Key": name} for name in names], "Quiet": True}
        with self._translate_errors(optional=True):
            answer = self._usual.delete_objects(Bucket=self.location.bucket, Delete=request)
        for problem in answer.get("Errors", ()):
            if problem.get("Code") not in _MISSING:
                raise self._error_of(problem.get("Code", ""), problem.get("Message", ""))

    def _delete_one(self, name: str) -> None:
        with contextlib.suppress(ObjectMissing), self._translate_errors(name):
            self._usual.delete_object(Bucket=self.location.bucket, Key=name)

    def _verify(self, name: str, size: int) -> None:
        found = self.size(name)
        if found != size:
            raise StorageUnavailable(self._where, f"an object of {size} bytes has {found} after its upload")

    # clients

    @property
    def _usual(self) -> Any:
        return self._client("usual", READ_SECONDS, ATTEMPTS)

    @property
    def _patient(self) -> Any:
        return self._client("patient", LONG_READ_SECONDS, LONG_ATTEMPTS)

    @property
    def _hasty(self) -> Any:
        return self._client("hasty", SHORT_SECONDS, SHORT_ATTEMPTS)

    @property
    def _public(self) -> Any:
        """The client that signs links; it sends nothing."""
        return self._client("public", READ_SECONDS, 1, self.location.public_endpoint)

    def _client(self, name: str, read_seconds: int, attempts: int, endpoint: str | None = None) -> Any:
        """A client per purpose, made on first use: importing boto3 takes half a second."""
        if name in self._made:
            return self._made[name]
        import boto3
        from botocore.config import Config

        location = self.location
        with self._lock:
            if name in self._made:
                return self._made[name]
            address = endpoint or location.endpoint
            host = urlsplit(address or "").hostname or ""
            self._session = self._session or boto3.session.Session()
            client = self._session.client(
                "s3",
                endpoint_url=address,
                region_name=location.region or self._session.region_name or "us-east-1",
                aws_access_key_id=location.access_key,
                aws_secret_access_key=location.secret_key,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": location.addressing},
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=read_seconds,
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    max_pool_connections=CONNECTIONS,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    # None takes those of the environment, even for a store on this machine
                    proxies={} if is_this_machine(host) else None,
                ),
            )
            client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
            self._made[name] = client
            return client

    # errors

    @property
    def _where(self) -> str:
        return f"S3 bucket {self.location.bucket}"

    @contextlib.contextmanager
    def _translate_errors(self, name: str | None = None, *, optional: bool = False) -> Iterator[None]:
        """Raise the libraries' errors as ours: ObjectMissing if `name` does not exist.

        Unsupported if the store lacks an `optional` operation.
        """
        import botocore.exceptions
        import urllib3.exceptions

        libraries = (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError, OSError)
        try:
            yield
        except botocore.exceptions.ClientError as error:
            problem = error.response.get("Error", {})
            code, status = problem.get("Code", ""), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if name is not None and code in {*_MISSING, "InvalidRange"}:
                raise ObjectMissing(name) from error
            if optional and status in _UNSUPPORTED:
                raise Unsupported(code) from error
            raise self._error_of(code, problem.get("Message", ""), status) from error
        except libraries as error:
            reason = _REASONS.get(type(error).__name__) or _system_reason(error) or str(error)
            raise StorageUnavailable(self._where, self._hide_secret(reason)) from error

    @contextlib.contextmanager
    def _suppress(self, code: str) -> Iterator[None]:
        import botocore.exceptions

        try:
            yield
        except botocore.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") != code:
                raise

    def _error_of(self, code: str, message: str, status: int = 0) -> StorageError:
        if status == 507 or _FULL.search(f"{code} {message}"):
            return StorageFull(self._where)
        return StorageUnavailable(self._where, self._hide_secret(f"{code}: {message}" if message else code))

    def _hide_secret(self, reason: str) -> str:
        return hide(reason, [Sent(self.location.secret_key or "")])[:300]


def _system_reason(error: BaseException | None) -> str | None:
    """The operating system's message below the libraries' errors, such as `Connection refused`."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, OSError) and error.strerror:
            return f"it cannot be reached: {error.strerror}"
        error = error.__cause__ or error.__context__
        seen += 1
    return None


def _add_md5(request: Any, **_: Any) -> None:
    """Add the checksum that the protocol demands here, in the form that older stores know too."""
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
