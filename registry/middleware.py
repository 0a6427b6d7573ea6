"""The one middleware: request id, errors to answers, one log line."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from auth.principal import ANONYMOUS
from registry.direct import SPENT
from registry.errors import answer_of, crash_response, error_response, http_error_response
from registry.instant import SERVER
from registry.parts import LOG_FIELDS, PROXIES, REQUEST_ID
from registry.request_log import RequestLog
from storage.errors import ConderyError

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")

CLIENT_GONE = 499
"""The status that is logged when the client got none, or no whole answer; nginx's number for it."""

BUSY = 503

log = structlog.get_logger(__name__)


def observe(request_log: RequestLog) -> Middleware:
    """The middleware, with a line in `request_log` for every request."""
    ours, numbers = secrets.token_hex(5), itertools.count(1)

    def new_id() -> str:
        """Of this process, and counted: random bytes for every request would cost more than all else here."""
        return f"{ours}-{next(numbers):x}"

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        given = request.headers.get("X-Request-ID")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else new_id()
        request[REQUEST_ID] = request_id
        fields: dict[str, Any] = {}
        request[LOG_FIELDS] = fields
        path = request.path
        status, size = CLIENT_GONE, 0
        try:
            response = await _answered(request, handler)
            if request.get(SPENT):
                response.force_close()
            status, size = response.status, _size(request, response)
        finally:
            fields |= {
                "method": request.method,
                "path": path,
                "status": status,
                "bytes": size,
                "seconds": round(time.perf_counter() - started, 6),
                "principal": ANONYMOUS.name,
                "client": request.app[PROXIES].client(request),
                "request": request_id,
            }
            request_log.write("info" if status < 500 or status == BUSY else "error", fields)
        return response

    return middleware


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or its error's; CutShort when the connection cannot be used any more."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return http_error_response(request.path, error)
    except ConnectionError:
        return _cut(request)
    except Exception as error:
        known = isinstance(error, ConderyError) and answer_of(type(error)) is not None
        if known:
            request[LOG_FIELDS] |= {"error": type(error).__name__, "reason": str(error)}
        else:
            log.exception("request crashed", request=request[REQUEST_ID], method=request.method, path=request.path)
        if request.writer.output_size > 0:
            # headers are out: an unexpected end is all that can still be said, and a clean end would be a lie
            return _cut(request)
        if isinstance(error, ConderyError) and known:
            return error_response(request.path, error)
        return crash_response(request.path, request[REQUEST_ID])


class CutShort(web.StreamResponse):
    """Stands for an answer whose connection is gone, and sends nothing.

    Raising would do as well, but aiohttp logs a traceback for it, and clients hang up every day.
    """

    def __init__(self) -> None:
        super().__init__(status=CLIENT_GONE)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def _cut(request: web.Request) -> CutShort:
    if request.transport is not None:
        request.transport.abort()
    return CutShort()


def _size(request: web.Request, response: web.StreamResponse) -> int:
    """Bytes of body, sent or to be sent."""
    if request.method == "HEAD":
        return 0
    return response.content_length or response.body_length


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer carries; a signal handler, so that answers sent from within handlers have it too."""
    headers = response.headers
    headers["Server"] = SERVER
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        headers["X-Request-ID"] = request_id
