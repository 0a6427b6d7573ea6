"""What issuers of identities can do to the server that fetches their keys."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestServer

from auth.sign_in.errors import FetchFailed, IssuerUnusable, TrustUnusable
from auth.sign_in.issuer_keys import Discovery, IssuerKeys
from registry.access.issuers import MOST_BYTES, IssuerClient, open_issuer_client
from tests.support.servers.certificates import Authority
from tests.support.servers.issuer import Issuer


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


async def refuse(url: str, issuer: str, *internal: str) -> str:
    client = IssuerClient([issuer], internal)
    try:
        with pytest.raises(FetchFailed) as caught:
            await client.fetch(url)
    finally:
        await client.close()
    return str(caught.value)


async def test_keys_are_fetched(issuer: Issuer) -> None:
    async with open_issuer_client([issuer.url], []) as client:
        assert await IssuerKeys(Discovery(issuer.url, client.fetch), client.fetch).find("first")


async def test_a_key_set_without_an_end(issuer: Issuer) -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(100 << 20)})
        await response.prepare(request)
        while True:
            await response.write(b" " * (1 << 16))
            sent += 1 << 16

    issuer.answer = pour
    async with open_issuer_client([issuer.url], []) as client:
        with pytest.raises(IssuerUnusable) as caught:
            await IssuerKeys(Discovery(issuer.url, client.fetch), client.fetch).find("first")
    assert f"larger than the allowed {MOST_BYTES} bytes" in caught.value.reason
    # the system's buffers hold some more than was read
    assert sent < 50 << 20


@pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 404, 500])
async def test_cve_2026_2376_answers_of_issuers_that_are_not_used(issuer: Issuer, status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"{issuer.url}/.well-known/openid-configuration"})

    issuer.answer = answer
    assert await refuse(f"{issuer.url}/keys", issuer.url) == f"{issuer.url}/keys answers {status}"
    assert issuer.asked == ["/keys"], "a redirect is not followed"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:1/keys",
        "https://[::1]:1/keys",
        "https://[::ffff:127.0.0.1]:1/keys",
        "https://localhost:1/keys",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/keys",
    ],
)
async def test_cve_2026_0600_an_issuer_inside(url: str, issuer: Issuer) -> None:
    assert "has an internal address" in await refuse(url, issuer.url)


async def test_an_internal_address_that_the_administrator_has_named(issuer: Issuer) -> None:
    reason = await refuse("https://127.0.0.1:1/keys", issuer.url, "127.0.0.1:1")
    assert "cannot be fetched (ClientConnectorError)" in reason


@pytest.mark.parametrize("template", ["http://127.0.0.1:1/x", "file:///etc/passwd", "https://", "https://a:b@{}", "x"])
async def test_other_addresses(template: str, issuer: Issuer) -> None:
    url = template.format(issuer.url.removeprefix("http://"))
    assert "is no address with https" in await refuse(url, issuer.url)


async def test_an_issuer_that_hangs_up(issuer: Issuer) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(0)
        return web.Response()

    issuer.answer = hang_up
    assert "cannot be fetched (" in await refuse(f"{issuer.url}/keys", issuer.url)


async def test_an_issuer_with_a_certificate_of_its_own_authority(tmp_path: Path) -> None:
    authority, pair = Authority(), tmp_path / "pair.pem"
    (tmp_path / "authority.pem").write_bytes(authority.certificate)
    issued = authority.issue()
    pair.write_bytes(issued.certificate + issued.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with open_issuer_client([url], [], tmp_path / "authority.pem") as client:
            assert await client.fetch(url) == b"{}"
        assert "certificate that is not trusted here" in await refuse(url, url)
    finally:
        await runner.cleanup()


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    for name, text in (("missing", None), ("no-pem", "text")):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        with pytest.raises(TrustUnusable, match=f"certificate authorities {path}: "):
            IssuerClient(["https://issuer.example.org"], [], path)


@pytest.mark.parametrize("by_header", [False, True])
async def test_an_error_code_that_repeats_a_secret_is_not_shown(by_header: bool) -> None:
    secret = "a_secret_of_small_letters"
    codes = iter([secret, "invalid_client"])

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"error": next(codes)}, status=400)

    app = web.Application()
    app.router.add_post("/token", answer)
    form = {"grant_type": "refresh_token", "refresh_token": "x"} | ({} if by_header else {"client_secret": secret})
    authorization = encode_basic_auth("condery", secret) if by_header else ""
    async with TestServer(app, host="127.0.0.1") as server:
        url = str(server.make_url("/token"))
        async with open_issuer_client([url], []) as client:
            for told in ("answers 400", "answers 400 (invalid_client)"):
                with pytest.raises(FetchFailed) as caught:
                    await client.post(url, form, authorization)
                assert str(caught.value) == f"{url} {told}"
