"""TLS: verified by clients, with certificates that are replaced while the server runs, and mistakes that are told."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import ssl
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from registry.logs.lines import configure
from registry.logs.settings import LogSettings
from registry.serving.tls import WATCH_SECONDS, CertificateInvalid, Certificates, watching
from registry.webhooks.delivery import Timing
from registry.webhooks.settings import WebhookSettings
from storage.digest import Digest
from tests.support.registry.serving import Site, serving
from tests.support.server import Server, StartServer
from tests.support.servers.certificates import Authority, Pair

AUTHORITY = Authority()


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path

    def write(self, pair: Pair) -> Pair:
        """As those do who renew certificates: each file beside the old one, then in its place."""
        for path, content in ((self.certificate, pair.certificate), (self.key, pair.key)):
            beside = path.with_suffix(".new")
            beside.write_bytes(content)
            beside.replace(path)
        return pair

    def open(self) -> Certificates:
        return Certificates(self.certificate, self.key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "tls.crt", tmp_path / "tls.key")


@pytest.fixture
def trusting(tmp_path: Path) -> ssl.SSLContext:
    """What a client has that knows the authority, and no other."""
    return ssl.create_default_context(cafile=AUTHORITY.write(tmp_path / "ca.crt"))


@contextlib.asynccontextmanager
async def secure(directory: Path, context: ssl.SSLContext) -> AsyncIterator[tuple[Site, int]]:
    """A server, and the port where it speaks TLS."""
    async with serving(directory) as site:
        await web.TCPSite(site.runner, "localhost", 0, ssl_context=context).start()
        yield site, next(address[1] for address in site.runner.addresses if str(address[1]) not in site.url)


async def serial(port: int, context: ssl.SSLContext) -> int:
    """Of the certificate that a new connection is given."""
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(certificate).serial_number


def test_blobs_go_both_ways(run: Callable[..., None], tmp_path: Path, files: Files, trusting: ssl.SSLContext) -> None:
    files.write(AUTHORITY.issue())

    async def scenario() -> None:
        async with secure(tmp_path / "data", files.open().context) as (site, port):
            content = os.urandom(9_000_000)
            digest = Digest.of(content)
            url = f"https://localhost:{port}/v2/a/blobs"
            data = io.BytesIO(content)
            async with site.client.post(f"{url}/uploads/?digest={digest}", data=data, ssl=trusting) as answer:
                assert answer.status == 201
            async with site.client.get(f"{url}/{digest}", ssl=trusting) as answer:
                assert await answer.read() == content
            headers = {"Range": "bytes=5000000-7999999"}
            async with site.client.get(f"{url}/{digest}", ssl=trusting, headers=headers) as answer:
                assert (answer.status, await answer.read()) == (206, content[5_000_000:8_000_000])
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await site.client.get(f"{url}/{digest}")

    run(scenario())


def test_new_certificate_is_for_new_connections(
    run: Callable[..., None], tmp_path: Path, files: Files, trusting: ssl.SSLContext
) -> None:
    first = files.write(AUTHORITY.issue())
    certificates = files.open()

    async def scenario() -> None:
        async with secure(tmp_path / "data", certificates.context) as (_, port):
            reader, writer = await asyncio.open_connection("localhost", port, ssl=trusting)
            assert await serial(port, trusting) == first.serial
            assert not certificates.reload()
            # of another kind of key as well
            second = files.write(AUTHORITY.issue(rsa.generate_private_key(65537, 2048)))
            assert certificates.reload()
            assert not certificates.reload()
            assert await serial(port, trusting) == second.serial
            without_name = ssl.create_default_context(cafile=tmp_path / "ca.crt")
            without_name.check_hostname = False
            _, other = await asyncio.open_connection("127.0.0.1", port, ssl=without_name, server_hostname="")
            shown = other.get_extra_info("ssl_object").getpeercert(binary_form=True)
            assert x509.load_der_x509_certificate(shown).serial_number == second.serial
            other.close()
            await other.wait_closed()
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            await reader.read()
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_a_pair_that_does_not_fit_serves_nobody(
    run: Callable[..., None], tmp_path: Path, files: Files, trusting: ssl.SSLContext
) -> None:
    first = files.write(AUTHORITY.issue())
    certificates = files.open()
    second = AUTHORITY.issue()

    async def scenario() -> None:
        async with secure(tmp_path / "data", certificates.context) as (_, port):
            files.certificate.write_bytes(second.certificate)
            with pytest.raises(CertificateInvalid, match="the key does not match the certificate"):
                certificates.reload()
            assert not certificates.reload()
            assert await serial(port, trusting) == first.serial
            files.key.unlink()
            with pytest.raises(CertificateInvalid, match="No such file"):
                certificates.reload()
            assert await serial(port, trusting) == first.serial
            files.key.write_bytes(second.key)
            assert certificates.reload()
            assert await serial(port, trusting) == second.serial

    run(scenario())


@pytest.mark.usefixtures("restored_logs")
async def test_what_becomes_of_new_files_is_logged_once(files: Files) -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="json"), stream)
    files.write(AUTHORITY.issue())
    certificates = files.open()
    async with watching(certificates, 0.01):
        files.key.write_bytes(b"nonsense")
        while not stream.getvalue():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        files.write(AUTHORITY.issue())
        while "certificate reloaded" not in stream.getvalue():
            await asyncio.sleep(0.01)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    kept = [line for line in lines if line["event"] == "certificate not reloaded, the old one stays in use"]
    assert len({line["reason"] for line in kept}) == len(kept) >= 1
    assert f"tls_key {files.key}: it contains no usable PEM key" in kept[0]["reason"]
    assert lines[-1]["event"] == "certificate reloaded"


async def test_old_versions_of_tls_are_refused(tmp_path: Path, files: Files) -> None:
    files.write(AUTHORITY.issue())
    certificates = files.open()
    assert certificates.context.minimum_version == ssl.TLSVersion.TLSv1_2

    def client(version: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(AUTHORITY.write(tmp_path / "ca.crt"))
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    async with secure(tmp_path / "data", certificates.context) as (_, port):
        await serial(port, client(ssl.TLSVersion.TLSv1_2))
        await serial(port, client(ssl.TLSVersion.TLSv1_3))
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await serial(port, client(version))


def test_those_who_speak_no_tls_leave_no_traceback(
    run: Callable[..., None], tmp_path: Path, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(AUTHORITY.issue())

    async def scenario() -> None:
        async with secure(tmp_path / "data", files.open().context) as (_, port):
            for words in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"\x16\x03\x01\x00\x05aaaaa"):
                reader, writer = await asyncio.open_connection("localhost", port)
                writer.write(words)
                if words:
                    with contextlib.suppress(ConnectionError):
                        await reader.read()
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    run(scenario())
    assert caplog.records == []


PAIR, OTHER = AUTHORITY.issue(), AUTHORITY.issue()


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        (None, PAIR.key, "tls_certificate .*tls.crt: No such file or directory"),
        (PAIR.certificate, None, "tls_key .*tls.key: No such file or directory"),
        (PAIR.certificate, OTHER.key, "tls_key .*tls.key: the key does not match the certificate .*tls.crt"),
        (PAIR.certificate, PAIR.encrypted_key(b"x"), "tls_key .*: the key is encrypted; give one without a password"),
        (b"nonsense", PAIR.key, "tls_certificate .*: it contains no PEM certificate"),
        (PAIR.key, PAIR.key, "tls_certificate .*: it contains no PEM certificate"),
        (b"", PAIR.key, "tls_certificate .*: it contains no PEM certificate"),
        (PAIR.certificate, b"nonsense", "tls_key .*: it contains no usable PEM key"),
        (PAIR.certificate, PAIR.certificate, "tls_key .*: it contains no usable PEM key"),
    ],
)
def test_mistakes_are_told(files: Files, certificate: bytes | None, key: bytes | None, message: str) -> None:
    for path, content in ((files.certificate, certificate), (files.key, key)):
        if content is not None:
            path.write_bytes(content)
    with pytest.raises(CertificateInvalid, match=message):
        files.open()


def test_a_directory_is_no_certificate(files: Files) -> None:
    files.write(PAIR)
    files.certificate.unlink()
    files.certificate.mkdir()
    with pytest.raises(CertificateInvalid, match=r"tls_certificate .*: Is a directory"):
        files.open()


def flags(files: Files) -> tuple[str, ...]:
    return ("--base", "scratch", "--tls-certificate", str(files.certificate), "--tls-key", str(files.key))


@pytest.mark.parametrize("processes", ["1", "2"])
def test_mistakes_end_the_start_in_one_line(files: Files, tmp_path: Path, processes: str) -> None:
    files.write(PAIR)
    files.key.write_bytes(OTHER.key)
    command = [sys.executable, "-m", "registry.cli", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, *flags(files), "--processes", processes], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"condery: tls_key {files.key}: the key does not match the certificate")
    assert done.stderr.count("\n") == 1


async def test_processes_that_run_have_the_new_certificate_soon(
    start_server: StartServer, files: Files, trusting: ssl.SSLContext
) -> None:
    first = files.write(AUTHORITY.issue())
    server: Server = await asyncio.to_thread(start_server, *flags(files), "--workers", "1", "--processes", "2")
    assert {await serial(server.port, trusting) for _ in range(8)} == {first.serial}
    second = files.write(AUTHORITY.issue())
    while {await serial(server.port, trusting) for _ in range(8)} != {second.serial}:
        await asyncio.sleep(WATCH_SECONDS / 10)
    async with aiohttp.ClientSession() as client:
        async with client.get(f"https://localhost:{server.port}/v2/", ssl=trusting) as answer:
            assert answer.status == 200
    assert await asyncio.to_thread(server.stop) == 0


@pytest.mark.usefixtures("restored_logs")
async def test_webhooks_have_to_have_good_certificates(tmp_path: Path, files: Files) -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="json"), stream)
    files.write(AUTHORITY.issue())
    async with secure(tmp_path / "receiver", files.open().context) as (receiver, port):
        told = WebhookSettings(webhooks=(f"https://localhost:{port}/healthz",))
        async with serving(tmp_path / "data", webhooks=told, timing=Timing(first_pause=0.01)) as site:
            path = f"/v2/a/blobs/uploads/?digest={Digest.of(b'x')}"
            async with site.request("POST", path, data=b"x") as answer:
                assert answer.status == 201
            while "webhook failed" not in stream.getvalue():
                await asyncio.sleep(0.01)
        assert receiver.log.getvalue() == ""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert "certificate" in next(line["reason"] for line in lines if line["event"].startswith("webhook failed"))
