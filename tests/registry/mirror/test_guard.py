"""Where another registry may send us, and what it may make us tell: redirects, token servers, names, credentials."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from builder.remote.logins import Login
from tests.support.registry.mirrored import APP, FIRST, get, get_refusal, name_of
from tests.support.registry.upstreams import QUICK, ScriptedRegistry, mirroring, scripted_registry
from tests.support.servers.resolver import Answers

LOGIN = Login("user", "secret-word")
BASIC = aiohttp.encode_basic_auth("user", "secret-word")


@pytest.fixture
async def elsewhere() -> AsyncIterator[ScriptedRegistry]:
    """Something inside, that must not be reached."""
    async with scripted_registry() as registry:
        yield registry


def redirect(location: str, status: int = 307) -> web.Response:
    return web.Response(status=status, headers={"Location": location})


TARGETS = [
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://10.0.0.1/",
    "http://100.64.0.1/",
    "http://127.0.0.1:1/",
    "//127.0.0.1:{port}/",
]
PATHS = [
    "manifests/latest",
    f"manifests/{FIRST.digest}",
    f"blobs/{FIRST.layer}",
    "tags/list",
    f"referrers/{FIRST.digest}",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_cve_2026_2376_redirects_to_the_inside_are_not_followed(
    tmp_path: Path, upstream: ScriptedRegistry, elsewhere: ScriptedRegistry, target: str
) -> None:
    async def inside(_request: web.Request) -> web.StreamResponse:
        return redirect(target.format(port=elsewhere.port))

    upstream.behaviour = inside
    async with mirroring(tmp_path, upstream.host, **QUICK) as site:
        for path in PATHS[:4]:
            code = "BLOB_UNKNOWN" if path.startswith("blobs/") else "MANIFEST_UNKNOWN"
            message = await get_refusal(site, f"{upstream.mirrored}/{APP}/{path}", 404, code)
            assert message.startswith(f"{upstream.host} refers to ")
            assert "169.254.169.254 " in message or "meta-data" not in message
        async with site.request("HEAD", f"/v2/{upstream.mirrored}/{APP}/{PATHS[2]}") as response:
            assert response.status == 404
        # of what refers to a manifest it is never said that there is no such list
        assert b'"manifests":[]' in await get(site, f"{upstream.mirrored}/{APP}/{PATHS[4]}")
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "target",
    ["ftp://8.8.8.8/", "file:///etc/passwd", "http://user@8.8.8.8/", "http://", "//", "http://[::1", "http:///x"],
)
async def test_redirects_to_nowhere(tmp_path: Path, upstream: ScriptedRegistry, target: str) -> None:
    async def nowhere(_request: web.Request) -> web.StreamResponse:
        return redirect(target)

    upstream.behaviour = nowhere
    async with mirroring(tmp_path, upstream.host, **QUICK) as site:
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        # what says no host is of the registry's own
        assert "refers to" in message or "redirects too many times" in message


async def test_redirects_without_end(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async def round_and_round(request: web.Request) -> web.StreamResponse:
        return redirect(request.path)

    upstream.behaviour = round_and_round
    async with mirroring(tmp_path, upstream.host, **QUICK) as site:
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/blobs/{FIRST.layer}", 404, "BLOB_UNKNOWN")
        assert message == f"{upstream.host} redirects too many times"
    assert len(upstream.asked) == 6


async def test_cve_2020_15157_a_redirect_that_is_allowed_gets_the_range_and_no_credentials(
    tmp_path: Path, upstream: ScriptedRegistry, elsewhere: ScriptedRegistry
) -> None:
    data = FIRST.blobs[FIRST.layer]

    async def with_login(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") != BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="here"'})
        return (
            redirect(f"http://{elsewhere.host}/store?X-Amz-Signature=a%2Fb%20c") if "/blobs/" in request.path else None
        )

    async def store(request: web.Request) -> web.StreamResponse:
        assert request.path_qs == "/store?X-Amz-Signature=a%2Fb%20c", "the address was not left as it was"
        # storage services refuse two ways to be authorized
        return web.Response(status=400) if "Authorization" in request.headers else web.Response(body=data)

    upstream.behaviour, elsewhere.behaviour = with_login, store
    internal = [upstream.host, elsewhere.host]
    logins = {upstream.host: LOGIN}
    async with mirroring(tmp_path, upstream.host, internal=internal, logins=logins) as site:
        assert await get(site, f"{upstream.mirrored}/{APP}/blobs/{FIRST.layer}") == data
    assert all("Authorization" not in headers for headers in elsewhere.headers)


async def test_a_challenge_of_a_host_that_was_redirected_to_is_not_met(
    tmp_path: Path, upstream: ScriptedRegistry, elsewhere: ScriptedRegistry
) -> None:
    async def away(_request: web.Request) -> web.StreamResponse:
        return redirect(f"http://{elsewhere.host}/")

    async def challenge(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="give me"'})

    upstream.behaviour, elsewhere.behaviour = away, challenge
    internal, logins = [upstream.host, elsewhere.host], {upstream.host: LOGIN, elsewhere.host: LOGIN}
    async with mirroring(tmp_path, upstream.host, internal=internal, logins=logins, **QUICK) as site:
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        assert "answered 401" in message
    assert len(elsewhere.asked) == 1
    for headers in (*upstream.headers, *elsewhere.headers):
        assert "Authorization" not in headers


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "[::ffff:127.0.0.1]:{port}", "169.254.169.254"]
)
async def test_a_token_server_inside_is_not_asked(
    tmp_path: Path, upstream: ScriptedRegistry, elsewhere: ScriptedRegistry, host: str
) -> None:
    realm = f"http://{host.format(port=elsewhere.port)}/token"

    async def challenge(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    upstream.behaviour = challenge
    for logins in ({}, {upstream.host: LOGIN}):
        async with mirroring(tmp_path, upstream.host, logins=logins, **QUICK) as site:
            message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
            assert "refers to" in message or "asks to send its login to" in message
    assert elsewhere.asked == []


async def test_a_token_server_that_redirects_is_not_followed(
    tmp_path: Path, upstream: ScriptedRegistry, elsewhere: ScriptedRegistry
) -> None:
    async def both(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return redirect(f"http://{elsewhere.host}/")
        return web.Response(
            status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{upstream.host}/token",service="x"'}
        )

    upstream.behaviour = both
    internal, logins = [upstream.host, elsewhere.host], {upstream.host: LOGIN}
    async with mirroring(tmp_path, upstream.host, internal=internal, logins=logins, **QUICK) as site:
        message = await get_refusal(site, f"{upstream.mirrored}/{APP}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        assert "answered 307 to the request for token" in message
    assert elsewhere.asked == []


async def test_cve_2026_33540_a_password_is_not_told_to_another_organisation(
    tmp_path: Path, upstream: ScriptedRegistry, elsewhere: ScriptedRegistry
) -> None:
    """Not even where its address may be connected to."""

    async def challenge(_request: web.Request) -> web.StreamResponse:
        realm = f"http://tokens.evil.example:{elsewhere.port}/token"
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    upstream.behaviour = challenge
    internal = [upstream.host, f"tokens.evil.example:{elsewhere.port}"]
    resolver = Answers("127.0.0.1", "127.0.0.1")
    path = f"{upstream.mirrored}/{APP}/manifests/latest"
    async with mirroring(
        tmp_path, upstream.host, internal=internal, logins={upstream.host: LOGIN}, resolver=resolver, **QUICK
    ) as site:
        message = await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
        assert "asks to send its login to tokens.evil.example, which belongs to somebody else" in message
    assert elsewhere.asked == []
    # without a password there is nothing to lose
    async with mirroring(tmp_path, upstream.host, internal=internal, resolver=resolver, **QUICK) as site:
        await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
    assert [path for _, path in elsewhere.asked] == ["/token"]


async def test_a_registry_inside_has_to_be_allowed(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    for host in (upstream.host, f"localhost:{upstream.port}"):
        async with mirroring(tmp_path, host, internal=["127.0.0.1:1", "localhost"], **QUICK) as site:
            message = await get_refusal(site, f"{name_of(host)}/manifests/latest", 404, "MANIFEST_UNKNOWN")
            assert message == f"{host} has an internal address; mirror_internal_hosts does not have it"
        assert upstream.asked == []
        async with mirroring(tmp_path, host, internal=[host]) as site:
            assert await get(site, f"{name_of(host)}/manifests/latest") == FIRST.body
        upstream.asked.clear()


async def test_cve_2026_0600_a_name_is_connected_to_at_the_address_that_was_checked(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    """Each connection looks the name up once. What it means a moment later does not matter."""
    host = f"rebinding.example:{upstream.port}"
    answers = Answers("127.0.0.1", "169.254.169.254")
    async with mirroring(tmp_path, host, insecure=[host], resolver=answers) as site:
        assert await get(site, f"{name_of(host)}/manifests/latest") == FIRST.body
    assert answers.addresses == ["169.254.169.254"]
    # and where it means the inside from the beginning, nothing is connected to
    answers = Answers("127.0.0.1", "8.8.8.8")
    upstream.asked.clear()
    async with mirroring(tmp_path / "other", host, internal=[], insecure=[host], resolver=answers, **QUICK) as site:
        message = await get_refusal(site, f"{name_of(host)}/manifests/latest", 404, "MANIFEST_UNKNOWN")
        assert message == f"{host} has an internal address; mirror_internal_hosts does not have it"
    assert answers.addresses == ["8.8.8.8"]
    assert upstream.asked == []


async def test_secrets_of_addresses_are_not_told(
    tmp_path: Path, upstream: ScriptedRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    async def away(_request: web.Request) -> web.StreamResponse:
        return redirect("http://127.0.0.1:1/store?X-Amz-Signature=hunter2")

    upstream.behaviour = away
    async with mirroring(tmp_path, upstream.host, internal=[upstream.host, "127.0.0.1:1"], **QUICK) as site:
        path = f"{upstream.mirrored}/{APP}"
        for reference in ("manifests/latest", f"blobs/{FIRST.layer}"):
            code = "BLOB_UNKNOWN" if reference.startswith("blobs/") else "MANIFEST_UNKNOWN"
            assert "hunter2" not in await get_refusal(site, f"{path}/{reference}", 404, code)
        assert "hunter2" not in site.log.getvalue()
    assert "hunter2" not in "".join(capsys.readouterr())


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> Mapping[str, Path]:
    found = {"key": tmp_path / "key.pem", "certificate": tmp_path / "certificate.pem"}
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -addext subjectAltName=DNS:localhost"
    )
    try:
        subprocess.run(
            [*command.split(), "-keyout", found["key"], "-out", found["certificate"]], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return found


@contextlib.asynccontextmanager
async def tls_registry(certificate: Mapping[str, Path], registry: ScriptedRegistry) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate["certificate"], certificate["key"])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_registry_is_spoken_to_by_tls_and_nothing_less(
    tmp_path: Path,
    upstream: ScriptedRegistry,
    elsewhere: ScriptedRegistry,
    certificate: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with tls_registry(certificate, upstream) as port:
        host = f"registry.example:{port}"
        internal = [host, elsewhere.host]
        path = f"{name_of(host)}/manifests/latest"
        answers = Answers(*["127.0.0.1"] * 9)
        async with mirroring(tmp_path, host, internal=internal, resolver=answers, **QUICK) as site:
            assert (
                await get_refusal(site, path, 404, "MANIFEST_UNKNOWN")
                == f"{host} has a certificate that is not trusted here"
            )
        assert upstream.asked == []

        trusting = ssl.create_default_context(cafile=str(certificate["certificate"]))
        trusting.check_hostname = False
        connector = aiohttp.TCPConnector
        monkeypatch.setattr("aiohttp.TCPConnector", lambda **options: connector(ssl=trusting, **options))

        async def downgrade(request: web.Request) -> web.StreamResponse:
            return redirect(f"http://{elsewhere.host}/")

        async with mirroring(tmp_path, host, internal=internal, resolver=answers, **QUICK) as site:
            assert await get(site, path) == FIRST.body
            upstream.behaviour = downgrade
            message = await get_refusal(site, f"{name_of(host)}/blobs/{FIRST.layer}", 404, "BLOB_UNKNOWN")
            assert message == f"{host} refers to http://127.0.0.1"
        assert elsewhere.asked == []


async def test_what_speaks_no_http_is_told_so(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with mirroring(tmp_path, host, **QUICK) as site:
            message = await get_refusal(site, f"{name_of(host)}/manifests/latest", 404, "MANIFEST_UNKNOWN")
            assert message.startswith(f"{host} sent an answer that cannot be parsed")
