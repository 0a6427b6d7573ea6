"""Everything around a handler: the request's id, answers to errors, and one log line."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from auth.principal import ANONYMOUS, Principal
from registry.answers import Form, answer_of, crash_response, error_response, http_error_response
from registry.errors import RouteUnknown, TooManyConnections
from registry.http.direct import SPENT
from registry.http.instant import SERVER, Instant
from registry.logs.request_log import LOG_FIELDS, REQUEST_ID, RequestLog
from registry.parts import CONNECTIONS, CORS, PARTS, PROXIES
from registry.trail import note_refusal
from storage.errors import ConderyError

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")

CLIENT_GONE = 499
"""The status to log if the client got no answer, or only part of one; nginx uses the same number."""

BUSY = 503

NO_ROUTE_FORM: Form = "rest"
"""The form of errors if no row of the table matches."""

PRINCIPAL = web.RequestKey("principal", Principal)
"""Who sent the request: set here, and again where a form at /token shows who it is; read by handlers, access checks
and the log."""

log = structlog.get_logger(__name__)


class Observer:
    """Everything around a handler.

    Not an aiohttp middleware: one costs a twelfth of the time to answer a manifest from memory.
    """

    def __init__(self, app: web.Application, request_log: RequestLog) -> None:
        """`app` knows its proxies, its connections and the pages it allows; its parts need not be open yet."""
        self._app = app
        self._request_log = request_log
        self._proxies = app[PROXIES]
        self._connections = app[CONNECTIONS]
        self._cors = app[CORS]
        self._process = secrets.token_hex(5)
        self._numbers = itertools.count(1)

    def around(self, handler: Handler, form: Form, *, probe: bool = False) -> Handler:
        """The handler with a request id, an answer in `form` to every error that it raises, and a log line.

        With `probe` it also answers on connections beyond the bound, and asks nobody who they are.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            self._begin(request)
            status, size = CLIENT_GONE, 0
            authentication = self._app[PARTS].authentication
            # plain where it can be: a coroutine more for every request would be felt
            known = None if probe else authentication.recall(request)
            request[PRINCIPAL] = ANONYMOUS if known is None else known
            try:
                surplus = self._connections.is_surplus(request)
                try:
                    if surplus and not probe:
                        raise TooManyConnections
                    # asked first, so that no pull pays for the call
                    if request.method == "OPTIONS" and self._cors.is_preflight(request):
                        response: web.StreamResponse = self._cors.allow(request)
                    else:
                        if known is None and not probe:
                            request[PRINCIPAL] = await authentication.identify(request)
                        response = await handler(request)
                except Exception as error:  # noqa: BLE001 - every error has its answer
                    response = _answer_failure(request, error, form)
                # looking up what is not there takes as long as all else here, and without a body nothing was spent
                if surplus or (request.body_exists and request.get(SPENT)):
                    response.force_close()
                status, size = response.status, _size(request, response)
            finally:
                self._log(request, status, size, time.perf_counter() - started)
            return response

        return answer

    async def complete(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers of every answer; a signal handler, so that it also sees answers that handlers send.

        It also gives our form to aiohttp's own answers: if no route was found, no handler of ours was called.
        """
        if REQUEST_ID not in request and isinstance(response, web.HTTPException):
            self._begin(request)
            request[PRINCIPAL] = ANONYMOUS
            _rewrite(request, response)
            self._log(request, response.status, _size(request, response), 0.0)
        response.headers["Server"] = SERVER
        self._cors.complete(request, response)
        if REQUEST_ID in request:
            response.headers["X-Request-ID"] = request[REQUEST_ID]

    def _begin(self, request: web.Request) -> None:
        given = request.headers.get("X-Request-ID")
        # this process's name and a counter: random bytes for every request would cost more than all else here
        request[REQUEST_ID] = (
            given if given and _REQUEST_ID.fullmatch(given) else f"{self._process}-{next(self._numbers):x}"
        )
        request[LOG_FIELDS] = {}

    def _log(self, request: web.Request, status: int, size: int, seconds: float) -> None:
        fields, principal = request[LOG_FIELDS], request[PRINCIPAL]
        if principal.token:
            fields["token_id"] = principal.token
        line = {
            "method": request.method,
            "path": request.rel_url.raw_path,
            "status": status,
            "bytes": size,
            "seconds": round(seconds, 6),
            "principal": principal.name,
            "client": self._proxies.client(request),
            "request": request[REQUEST_ID],
            **fields,
        }
        self._request_log.write("info" if status < 500 or status == BUSY else "error", line)


def _rewrite(request: web.Request, response: web.HTTPException) -> None:
    """Give an answer that is being sent the form of our errors; its length is already fixed."""
    if response.status == HTTPStatus.NOT_FOUND:
        ours = error_response(NO_ROUTE_FORM, RouteUnknown(request.rel_url.raw_path))
    else:
        ours = http_error_response(NO_ROUTE_FORM, response)
    assert isinstance(ours.body, bytes)
    response.body = ours.body
    response.headers.update(ours.headers)
    response.headers["Content-Length"] = str(len(ours.body))
    request.writer.length = len(ours.body)


def _answer_failure(request: web.Request, error: Exception, form: Form) -> web.StreamResponse:
    """The error's answer; CutShort if the connection can no longer be used."""
    if isinstance(error, web.HTTPException):
        return http_error_response(form, error)
    if isinstance(error, ConnectionError):
        return _cut(request)
    known = isinstance(error, ConderyError) and answer_of(type(error)) is not None
    if known:
        assert isinstance(error, ConderyError), "only these have an answer"
        note_refusal(request, request[PRINCIPAL], error)
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
        # headers are already sent: only an unexpected end can still tell the client; a clean end would be a lie
        return _cut(request)
    if isinstance(error, ConderyError) and known:
        return error_response(form, error, to_script=_is_script(request))
    return crash_response(form, request[REQUEST_ID])


def _is_script(request: web.Request) -> bool:
    """Whether a page's script has sent it: for Basic a browser would ask for a password, and have the script wait."""
    return any(mode != "navigate" for mode in request.headers.getall("Sec-Fetch-Mode", ()))


class CutShort(web.StreamResponse):
    """Stands for an answer whose connection is gone, and sends nothing.

    An exception would work too, but aiohttp logs a traceback for it, and clients hang up every day.
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
