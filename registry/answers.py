"""The answer to every error: one table from classes to status and code, and the four forms of an answer.

The route's row says which form: the distribution specification's, the REST API's, a page for people, or the token
endpoint's. Errors of builds and users are 404: docker, podman and skopeo show the message of a 404 but not of a 5xx,
and retry neither.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Literal, NamedTuple

import orjson
from aiohttp import web

from auth import errors as auth
from auth.sign_in.errors import (
    DeviceDenied,
    DeviceExpired,
    DevicePending,
    DeviceTooFast,
    IssuerUnusable,
    SignInFailed,
    SignInRefused,
)
from auth.tokens import errors as tokens
from builder import errors as builder
from registry.errors import (
    BodyBroken,
    BodyInvalid,
    BodyTooLarge,
    BrokenPromise,
    ContentRangeInvalid,
    Denied,
    DigestMalformed,
    DigestOfBody,
    GrantUnsupported,
    MethodUnsupported,
    NameInvalid,
    NoFiles,
    NothingMade,
    PageInvalid,
    PathInvalid,
    RequestError,
    RouteUnknown,
    ScopesInvalid,
    SpecificationRefused,
    StillBuilding,
    TagInvalid,
    TagMalformed,
    TagsInvalid,
    TokenRequestInvalid,
    TooManyConnections,
    TooManyRequests,
    TooManyStreams,
    Unauthorized,
)
from registry.mirror import errors as mirror
from storage import errors as storage
from storage.errors import ConderyError
from storage.text import printable

Form = Literal["distribution", "rest", "page", "token"]
"""The forms in which errors are reported."""


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
    BodyInvalid: Answer(400, "BODY_INVALID"),
    PathInvalid: Answer(400, "NAME_INVALID"),
    NothingMade: Answer(400, "NOTHING_MADE"),
    SpecificationRefused: Answer(400, "SPECIFICATION_INVALID"),
    ScopesInvalid: Answer(400, "INVALID_SCOPE"),
    GrantUnsupported: Answer(400, "UNSUPPORTED_GRANT_TYPE"),
    TokenRequestInvalid: Answer(400, "INVALID_REQUEST"),
    Unauthorized: Answer(401, "UNAUTHORIZED"),
    Denied: Answer(403, "DENIED"),
    PageInvalid: Answer(400, "PAGINATION_NUMBER_INVALID"),
    RouteUnknown: Answer(404, "NOT_FOUND"),
    NoFiles: Answer(404, "NAME_UNKNOWN"),
    MethodUnsupported: Answer(405, "UNSUPPORTED"),
    StillBuilding: Answer(503, "BUILDING"),
    TooManyConnections: Answer(503, "UNAVAILABLE"),
    TooManyRequests: Answer(429, "TOOMANYREQUESTS"),
    TooManyStreams: Answer(429, "TOOMANYREQUESTS"),
    BrokenPromise: Answer(500, "UNKNOWN"),
    RequestError: Answer(400, "UNSUPPORTED"),
    tokens.AccessTokenInvalid: Answer(400, "TOKEN_INVALID"),
    tokens.AccessTokenUnknown: Answer(404, "TOKEN_UNKNOWN"),
    tokens.CredentialsInvalid: Answer(401, "UNAUTHORIZED"),
    storage.BlobUnknown: Answer(404, "BLOB_UNKNOWN"),
    storage.DigestInvalid: Answer(400, "DIGEST_INVALID"),
    storage.DigestMismatch: Answer(400, "DIGEST_INVALID"),
    storage.StorageFull: Answer(507, "STORAGE_FULL"),
    storage.StorageUnavailable: Answer(503, "UNAVAILABLE"),
    storage.StorageBusy: Answer(503, "UNAVAILABLE"),
    storage.TooManyUploads: Answer(429, "TOOMANYREQUESTS"),
    storage.ServerStopping: Answer(503, "UNAVAILABLE"),
    storage.WriteExpired: Answer(404, "BLOB_UPLOAD_UNKNOWN"),
    storage.RepositoryUnknown: Answer(404, "NAME_UNKNOWN"),
    storage.ManifestUnknown: Answer(404, "MANIFEST_UNKNOWN"),
    storage.ManifestBlobUnknown: Answer(404, "MANIFEST_BLOB_UNKNOWN"),
    storage.SizeMismatch: Answer(400, "MANIFEST_INVALID"),
    storage.BlobInUse: Answer(409, "DENIED"),
    storage.UploadUnknown: Answer(404, "BLOB_UPLOAD_UNKNOWN"),
    storage.RangeInvalid: Answer(416, "BLOB_UPLOAD_INVALID"),
    storage.TagImmutable: Answer(403, "DENIED"),
    storage.TagTaken: Answer(403, "DENIED"),
    storage.DeletionForbidden: Answer(403, "DENIED"),
    storage.QuotaExceeded: Answer(403, "DENIED"),
    storage.RepositoryOfEnvironment: Answer(403, "DENIED"),
    storage.EnvironmentUnknown: Answer(404, "NOT_FOUND"),
    storage.EnvironmentBuildUnknown: Answer(404, "NOT_FOUND"),
    storage.EnvironmentTaken: Answer(409, "CONFLICT"),
    storage.BuildStateWrong: Answer(409, "CONFLICT"),
    storage.ContentError: Answer(400, "UNSUPPORTED"),
    storage.VaultLocked: Answer(503, "UNAVAILABLE"),
    storage.VaultKeyMissing: Answer(503, "UNAVAILABLE"),
    storage.CredentialUnfit: Answer(400, "UNSUPPORTED"),
    storage.CredentialUnknown: Answer(404, "NOT_FOUND"),
    storage.StorageError: Answer(500, "UNKNOWN"),
    storage.JsonInvalid: Answer(400, "MANIFEST_INVALID"),
    storage.ManifestInvalid: Answer(400, "MANIFEST_INVALID"),
    auth.AccessConflict: Answer(409, "CONFLICT"),
    auth.AccessRefused: Answer(400, "UNSUPPORTED"),
    auth.NameUnfit: Answer(400, "NAME_INVALID"),
    auth.AccessUnknown: Answer(404, "NOT_FOUND"),
    auth.GrantExceeded: Answer(403, "DENIED"),
    auth.TooManyAttempts: Answer(429, "TOOMANYREQUESTS"),
    auth.SignInBusy: Answer(503, "UNAVAILABLE"),
    IssuerUnusable: Answer(503, "UNAVAILABLE"),
    SignInRefused: Answer(403, "DENIED"),
    SignInFailed: Answer(403, "DENIED"),
    DevicePending: Answer(400, "AUTHORIZATION_PENDING"),
    DeviceTooFast: Answer(400, "SLOW_DOWN"),
    DeviceDenied: Answer(400, "ACCESS_DENIED"),
    DeviceExpired: Answer(400, "EXPIRED_TOKEN"),
    mirror.NotMirrored: Answer(404, "NAME_UNKNOWN"),
    mirror.RepositoryLacking: Answer(404, "NAME_UNKNOWN"),
    mirror.BlobLacking: Answer(404, "BLOB_UNKNOWN"),
    mirror.BlobFailed: Answer(404, "BLOB_UNKNOWN"),
    mirror.UpstreamLimits: Answer(429, "TOOMANYREQUESTS"),
    mirror.MirrorError: Answer(404, "MANIFEST_UNKNOWN"),
    builder.TooManyBuilds: Answer(429, "TOOMANYREQUESTS"),
    builder.SearchUnavailable: Answer(503, "UNAVAILABLE"),
    builder.SearchLimit: Answer(503, "UNAVAILABLE"),
    builder.UnknownArtifact: Answer(404, "NOT_FOUND"),
    builder.InputInvalid: Answer(400, "SPECIFICATION_INVALID"),
    builder.BuilderError: Answer(404, "MANIFEST_UNKNOWN"),
}
"""An error gets the answer of the nearest of its classes in this table."""

_SOON = (
    *(StillBuilding, TooManyConnections, TooManyRequests, TooManyStreams, DeviceTooFast, builder.TooManyBuilds),
    *(builder.SearchUnavailable, builder.SearchLimit),
    *(storage.StorageBusy, storage.TooManyUploads, storage.ServerStopping),
    *(auth.TooManyAttempts, auth.SignInBusy, IssuerUnusable),
)
"""Errors that know after how many seconds the same request may work."""

CODES_OF_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NOT_FOUND", 405: "UNSUPPORTED", 413: "SIZE_INVALID"}


def answer_of(error: type[ConderyError]) -> Answer | None:
    return next((ANSWERS[each] for each in error.__mro__ if each in ANSWERS), None)


def error_response(form: Form, error: ConderyError, *, to_script: bool = False) -> web.Response:
    """The answer to a request that failed with `error`; `to_script` if the script of a page has sent it."""
    status, code = answer_of(type(error)) or Answer(500, "UNKNOWN")
    headers: dict[str, str | Sequence[str]] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = _choose_challenges(form, error, to_script=to_script)
    if isinstance(error, MethodUnsupported):
        headers["Allow"] = error.allowed
    if isinstance(error, _SOON):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, mirror.UpstreamLimits) and error.retry_after is not None:
        headers["Retry-After"] = f"{error.retry_after:.0f}"
    if isinstance(error, storage.RangeInvalid):
        headers["Range"] = f"0-{max(error.size - 1, 0)}"
    return _write(form, status, code, str(error), headers=headers)


def _choose_challenges(form: Form, error: Unauthorized, *, to_script: bool) -> Sequence[str]:
    if form == "token":
        # who asks for a token is told to send a password, not to ask for a token
        return error.challenges[-1:]
    if to_script or (form == "page" and not error.error):
        # for Basic a browser would ask for a password by itself; one that has sent a wrong one has to forget it
        return [each for each in error.challenges if each.startswith("Bearer")] or ["Bearer"]
    return error.challenges


def http_error_response(form: Form, error: web.HTTPException) -> web.Response:
    """One of aiohttp's own errors in our form."""
    code = CODES_OF_STATUS.get(error.status, "UNSUPPORTED" if error.status < 500 else "UNKNOWN")
    allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return _write(form, error.status, code, error.reason, headers=allowed)


def crash_response(form: Form, request_id: str) -> web.Response:
    """The answer to a bug of ours; it reveals only where to look in the log."""
    return _write(form, 500, "UNKNOWN", f"internal error; the server's log has the details under request {request_id}")


def _write(
    form: Form, status: int, code: str, message: str, *, headers: Mapping[str, str | Sequence[str]] | None = None
) -> web.Response:
    # a client shows it on a terminal, and it may quote what somebody else wrote
    body, own_headers = _WRITERS[form](status, code, printable(message))
    # it is about this request of this client, and may name the host that it asked for
    kept = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    answer = web.Response(status=status, body=body, headers={**kept, **own_headers})
    for name, value in (headers or {}).items():
        for each in [value] if isinstance(value, str) else value:
            answer.headers.add(name, each)
    return answer


_JSON_HEADERS = {"Content-Type": "application/json"}

UNSTORED_JSON: Mapping[str, str] = {
    **_JSON_HEADERS,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of JSON that is for its receiver alone, and that no browser takes for anything else."""

PAGE_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every page: it runs and loads nothing, is in no frame of another, and is kept by nobody."""
_HTML_HEADERS = {**PAGE_HEADERS, "Content-Type": "text/html; charset=utf-8"}


def _write_distribution(_status: int, code: str, message: str) -> tuple[bytes, Mapping[str, str]]:
    """As in distribution-spec, "Error Codes"."""
    return orjson.dumps({"errors": [{"code": code, "message": message, "detail": None}]}), _JSON_HEADERS


def _write_rest(_status: int, code: str, message: str) -> tuple[bytes, Mapping[str, str]]:
    return orjson.dumps({"status": "error", "code": code, "message": message}), _JSON_HEADERS


def _write_page(status: int, _code: str, message: str) -> tuple[bytes, Mapping[str, str]]:
    title = f"{status} {HTTPStatus(status).phrase}"
    link = '<p><a href="/login">Sign in</a></p>' if status == HTTPStatus.UNAUTHORIZED else ""
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1><p>{html.escape(message)}</p>{link}</body></html>\n"
    )
    return page.encode(), _HTML_HEADERS


_OAUTH = {
    "UNAUTHORIZED": "invalid_grant",
    "UNSUPPORTED_GRANT_TYPE": "unsupported_grant_type",
    "INVALID_SCOPE": "invalid_scope",
    "AUTHORIZATION_PENDING": "authorization_pending",
    "SLOW_DOWN": "slow_down",
    "ACCESS_DENIED": "access_denied",
    "EXPIRED_TOKEN": "expired_token",
}
"""OAuth's words for what is wrong (RFC 6749, 5.2; RFC 8628, 3.5), by ours."""


def _write_token(status: int, code: str, message: str) -> tuple[bytes, Mapping[str, str]]:
    """Of the token endpoint: what registries' clients show, and what OAuth's read.

    A wrong password is 401 as in distribution's specification, where OAuth would have 400.
    """
    error = _OAUTH.get(code, "invalid_request" if status < 500 else "temporarily_unavailable")
    document = {
        "errors": [{"code": code, "message": message, "detail": None}],
        "error": error,
        "error_description": message,
    }
    return orjson.dumps(document), UNSTORED_JSON


_WRITERS: Mapping[Form, Callable[[int, str, str], tuple[bytes, Mapping[str, str]]]] = {
    "distribution": _write_distribution,
    "rest": _write_rest,
    "page": _write_page,
    "token": _write_token,
}
