"""What surrounds every handler: a request id, errors to answers, one log line."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from auth.principal import ANONYMOUS
from registry.direct import SPENT
from registry.errors import answer_of, crash_response, error_response, http_error_response
from registry.forwarded import Proxies
from registry.instant import SERVER, Instant
from registry.request_log import LOG_FIELDS, REQUEST_ID, RequestLog
from storage.errors import ConderyError

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")

CLIENT_GONE = 499
"""The status that is logged when the client got none, or no whole answer; nginx's number for it."""

BUSY = 503

log = structlog.get_logger(__name__)


def observe(request_log: RequestLog, proxies: Proxies) -> Callable[[Handler], Handler]:
    """What surrounds a handler, with a line in `request_log` for every request.

    Not an aiohttp middleware: those cost a tenth of what answering a manifest from memory costs.
    """
    ours, numbers = secrets.token_hex(5), itertools.count(1)

    def new_id() -> str:
        """Of this process, and counted: random bytes for every request would cost more than all else here."""
        return f"{ours}-{next(numbers):x}"

    def observed(handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            given = request.headers.get("X-Request-ID")
            request_id = given if given and _REQUEST_ID.fullmatch(given) else new_id()
            request[REQUEST_ID] = request_id
            fields: dict[str, Any] = {}
            request[LOG_FIELDS] = fields
            status, size = CLIENT_GONE, 0
            try:
                try:
                    response = await handler(request)
                except Exception as error:  # noqa: BLE001 - every error has its answer
                    response = _failed(request, error)
                if request.get(SPENT):
                    response.force_close()
                status, size = response.status, _size(request, response)
            finally:
                line = {
                    "method": request.method,
                    "path": request.rel_url.raw_path,
                    "status": status,
                    "bytes": size,
                    "seconds": round(time.perf_counter() - started, 6),
                    "principal": ANONYMOUS.name,
                    "client": proxies.client(request),
                    "request": request_id,
                    **fields,
                }
                request_log.write("info" if status < 500 or status == BUSY else "error", line)
            return response

        return answer

    return observed


def _failed(request: web.Request, error: Exception) -> web.StreamResponse:
    """The error's answer; CutShort when the connection cannot be used any more."""
    if isinstance(error, web.HTTPException):
        return http_error_response(request.path, error)
    if isinstance(error, ConnectionError):
        return _cut(request)
    known = isinstance(error, ConderyError) and answer_of(type(error)) is not None
    if known:
        request[LOG_FIELDS] |= {"error": type(error).__name__, "reason": str(error)}
    else:
        log.error(
            "request crashed",
            request=request[REQUEST_ID],
            method=request.method,
            path=request.path,
            exc_info=error,
        )
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
    if isinstance(response, Instant):
        return response.body_length
    return response.content_length or response.body_length


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer carries; a signal handler, so that answers sent from within handlers have it too."""
    headers = response.headers
    headers["Server"] = SERVER
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        headers["X-Request-ID"] = request_id
