"""Text that nobody would send: no 5xx, nothing granted, and no line of the log that breaks."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from pathlib import Path
from urllib.parse import quote

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from auth.sign_in.settings import SignInSettings
from registry.http.settings import HttpSettings
from tests.support.registry.access import CLOSED
from tests.support.registry.serving import serving

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

HEADER_BYTES = st.binary(max_size=300).map(lambda data: data.translate(None, b"\r\n\0"))
SCHEMES = st.sampled_from(["Bearer ", "Basic ", "bearer\t", "BASIC  ", "Digest ", "Negotiate ", "", "Bearer"])
SEGMENT = st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode())
JWTS = st.tuples(SEGMENT, SEGMENT, SEGMENT).map(".".join)
LOGINS = st.binary(max_size=80).map(lambda data: base64.b64encode(data).decode())
CREDENTIALS = st.one_of(
    HEADER_BYTES,
    st.tuples(SCHEMES, st.one_of(JWTS, LOGINS, st.text("condery_0aZ.", max_size=60))).map(
        lambda both: "".join(both).encode()
    ),
)
FIELDS = st.sampled_from(
    ["scope", "service", "account", "client_id", "offline_token", "grant_type", "username", "password", "refresh_token"]
)
VALUES = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["password", "refresh_token", "true", "condery", "repository:team/app:pull", "registry:catalog:*"]),
    st.tuples(
        st.sampled_from(["repository", "registry", "x"]), st.text(max_size=40), st.text("pul,*sh", max_size=9)
    ).map(":".join),
)
FORMS = st.lists(st.tuples(FIELDS, VALUES), max_size=8).map(
    lambda pairs: "&".join(f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in pairs)
)


def exchange(address: tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """The status and the body of the answer to raw bytes."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def write(method: str, path: str, body: str = "", *headers: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", *headers]
    if body:
        lines += [b"Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}".encode()]
    return b"\r\n".join([*lines, b"", body.encode()])


async def test_fuzz_headers_and_forms_that_nobody_would_send(tmp_path: Path) -> None:
    limited = CLOSED.model_copy(update={"login_attempts": 1_000_000})
    async with serving(tmp_path, sign_in=limited) as site:
        address = site.host_port

        @EXAMPLES
        @given(header=CREDENTIALS, path=st.sampled_from(["/v2/", "/token", "/api/v1/token/", "/v2/team/app/tags/list"]))
        def headers(header: bytes, path: str) -> None:
            status, _ = exchange(address, write("GET", path, "", b"Authorization: " + header))
            assert status in (400, 401, 429) or (status == 200 and not header.strip()), (status, header)

        @EXAMPLES
        @given(form=FORMS)
        def queries(form: str) -> None:
            status, body = exchange(address, write("GET", f"/token?{form}"))
            assert status in (200, 400), (status, form)
            assert isinstance(json.loads(body), dict)

        @EXAMPLES
        @given(form=FORMS)
        def forms(form: str) -> None:
            status, body = exchange(address, write("POST", "/token", form))
            assert status in (400, 401), (status, form)
            assert "token" not in json.loads(body)

        for fuzz in (headers, queries, forms):
            await asyncio.to_thread(fuzz)
    for line in site.log.getvalue().splitlines():
        assert json.loads(line)["status"] < 500


async def test_fuzz_cookies_that_nobody_would_send(tmp_path: Path) -> None:
    elsewhere = SignInSettings(oidc_issuer="https://sso.invalid", oidc_client_id="condery")
    http = HttpSettings(public_url="https://registry.example.org")
    async with serving(tmp_path, http, sign_in=CLOSED, elsewhere=elsewhere) as site:
        address = site.host_port

        @EXAMPLES
        @given(
            value=HEADER_BYTES, where=st.sampled_from(["GET /v2/", "GET /token", "GET /login/callback", "POST /logout"])
        )
        @example(value=b"\xff", where="GET /v2/")
        @example(value=b"\xff", where="POST /logout")
        @example(value=b"x" * 300, where="GET /v2/")
        def cookies(value: bytes, where: str) -> None:
            method, path = where.split()
            for name in (b"session", b"login"):
                cookie = b"Cookie: __Host-condery-" + name + b"=" + value
                status, body = exchange(address, write(method, f"{path}?state=x", "", cookie))
                # at /token, anybody gets a token for nothing
                assert status in (400, 401, 403) or (path == "/token" and status == 200), (status, cookie, body)

        @EXAMPLES
        @given(state=HEADER_BYTES, value=HEADER_BYTES)
        @example(state=b"\xff", value=b"x")
        @example(state=b"x", value=b"\xff")
        @example(state=b"\xff", value=b"\xff")
        def states(state: bytes, value: bytes) -> None:
            request = write("GET", "/login/callback?state=STATE", "", b"Cookie: __Host-condery-login=" + value)
            status, body = exchange(address, request.replace(b"STATE", state, 1))
            assert status in (400, 403), (status, state, value, body)

        for fuzz in (cookies, states):
            await asyncio.to_thread(fuzz)
    for line in site.log.getvalue().splitlines():
        assert json.loads(line)["status"] < 500
