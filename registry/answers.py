"""Every error's answer: one table from class to status and code, and the two forms in which it is written.

Below /v2 the form is the distribution specification's, elsewhere the REST API's. Build and user errors are 404: docker,
podman and skopeo show the message of a 404 and of no 5xx, and retry neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from builder import errors as builder
from registry.errors import (
    BodyBroken,
    BodyTooLarge,
    BrokenPromise,
    ContentRangeInvalid,
    Denied,
    DigestMalformed,
    DigestOfBody,
    MethodUnsupported,
    NameInvalid,
    NoFiles,
    PageInvalid,
    RequestError,
    RouteUnknown,
    StillBuilding,
    TagInvalid,
    TagMalformed,
    TagsInvalid,
    TooManyConnections,
)
from registry.mirror import errors as mirror
from storage import errors as storage
from storage.errors import ConderyError
from storage.text import printable


class Answer(NamedTuple):
    status: int
    code: str


ANSWERS: Mapping[type[ConderyError], Answer] = {
    NameInvalid: Answer(400, "NAME_INVALID"),
    TagInvalid: Answer(404, "MANIFEST_UNKNOWN"),
    DigestMalformed: Answer(404, "DIGEST_INVALID"),
    TagMalformed: Answer(400, "TAG_INVALID"),
    TagsInvalid: Answer(400, "TAG_INVALID"),
    DigestOfBody: Answer(400, "DIGEST_INVALID"),
    ContentRangeInvalid: Answer(416, "BLOB_UPLOAD_INVALID"),
    BodyTooLarge: Answer(413, "SIZE_INVALID"),
    BodyBroken: Answer(400, "SIZE_INVALID"),
    Denied: Answer(403, "DENIED"),
    PageInvalid: Answer(400, "PAGINATION_NUMBER_INVALID"),
    RouteUnknown: Answer(404, "NOT_FOUND"),
    NoFiles: Answer(404, "NAME_UNKNOWN"),
    MethodUnsupported: Answer(405, "UNSUPPORTED"),
    StillBuilding: Answer(503, "BUILDING"),
    TooManyConnections: Answer(503, "UNAVAILABLE"),
    BrokenPromise: Answer(500, "UNKNOWN"),
    RequestError: Answer(400, "UNSUPPORTED"),
    storage.BlobUnknown: Answer(404, "BLOB_UNKNOWN"),
    storage.DigestInvalid: Answer(400, "DIGEST_INVALID"),
    storage.DigestMismatch: Answer(400, "DIGEST_INVALID"),
    storage.StorageFull: Answer(507, "STORAGE_FULL"),
    storage.StorageUnavailable: Answer(503, "UNAVAILABLE"),
    storage.StorageBusy: Answer(503, "UNAVAILABLE"),
    storage.WriteExpired: Answer(404, "BLOB_UPLOAD_UNKNOWN"),
    storage.RepositoryUnknown: Answer(404, "NAME_UNKNOWN"),
    storage.ManifestUnknown: Answer(404, "MANIFEST_UNKNOWN"),
    storage.ManifestBlobUnknown: Answer(404, "MANIFEST_BLOB_UNKNOWN"),
    storage.SizeMismatch: Answer(400, "MANIFEST_INVALID"),
    storage.BlobInUse: Answer(409, "DENIED"),
    storage.UploadUnknown: Answer(404, "BLOB_UPLOAD_UNKNOWN"),
    storage.RangeInvalid: Answer(416, "BLOB_UPLOAD_INVALID"),
    storage.TagImmutable: Answer(403, "DENIED"),
    storage.QuotaExceeded: Answer(403, "DENIED"),
    storage.ContentError: Answer(400, "UNSUPPORTED"),
    storage.StorageError: Answer(500, "UNKNOWN"),
    storage.JsonInvalid: Answer(400, "MANIFEST_INVALID"),
    storage.ManifestInvalid: Answer(400, "MANIFEST_INVALID"),
    mirror.NotMirrored: Answer(404, "NAME_UNKNOWN"),
    mirror.RepositoryLacking: Answer(404, "NAME_UNKNOWN"),
    mirror.BlobLacking: Answer(404, "BLOB_UNKNOWN"),
    mirror.BlobFailed: Answer(404, "BLOB_UNKNOWN"),
    mirror.UpstreamLimits: Answer(429, "TOOMANYREQUESTS"),
    mirror.MirrorError: Answer(404, "MANIFEST_UNKNOWN"),
    builder.TooManyBuilds: Answer(429, "TOOMANYREQUESTS"),
    builder.UnknownArtifact: Answer(404, "NOT_FOUND"),
    builder.BuilderError: Answer(404, "MANIFEST_UNKNOWN"),
}
"""An error is answered as the nearest of its classes that is here."""

_CODES_OF_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NOT_FOUND", 405: "UNSUPPORTED", 413: "SIZE_INVALID"}


def answer_of(error: type[ConderyError]) -> Answer | None:
    return next((ANSWERS[each] for each in error.__mro__ if each in ANSWERS), None)


def error_response(path: str, error: ConderyError) -> web.Response:
    """The answer to a request of `path` that failed with `error`."""
    status, code = answer_of(type(error)) or Answer(500, "UNKNOWN")
    headers = {}
    if isinstance(error, MethodUnsupported):
        headers["Allow"] = error.allowed
    if isinstance(error, StillBuilding | TooManyConnections | builder.TooManyBuilds | storage.StorageBusy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, mirror.UpstreamLimits) and error.retry_after is not None:
        headers["Retry-After"] = f"{error.retry_after:.0f}"
    if isinstance(error, storage.RangeInvalid):
        headers["Range"] = f"0-{max(error.size - 1, 0)}"
    return written(path, status, code, str(error), headers=headers)


def http_error_response(path: str, error: web.HTTPException) -> web.Response:
    """aiohttp's own errors in our form."""
    code = _CODES_OF_STATUS.get(error.status, "UNSUPPORTED" if error.status < 500 else "UNKNOWN")
    allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return written(path, error.status, code, error.reason, headers=allowed)


def crash_response(path: str, request_id: str) -> web.Response:
    """The answer to a defect of ours, which tells nothing but where the log has it."""
    return written(path, 500, "UNKNOWN", f"internal error; the server's log has the details under request {request_id}")


def written(
    path: str, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    # a client shows it on a terminal, and it may quote what somebody else wrote
    message = printable(message)
    document: dict[str, Any]
    if path == "/v2" or path.startswith("/v2/"):
        document = {"errors": [{"code": code, "message": message, "detail": None}]}
    else:
        document = {"status": "error", "code": code, "message": message}
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        headers={"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )
