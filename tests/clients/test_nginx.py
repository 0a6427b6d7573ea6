"""condery behind nginx, configured as docs/tls-and-proxies.md says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from storage.digest import Digest
from tests.clients import layouts
from tests.support.programs import Skopeo, need, run
from tests.support.registry.stored import read_log
from tests.support.server import StartServer
from tests.support.servers.certificates import Authority
from tests.support.servers.receiver import receiving

pytestmark = pytest.mark.clients

DOCUMENT = Path(__file__).parents[2] / "docs" / "tls-and-proxies.md"
AUTHORITY = Authority()
OTHER_CLIENT = "127.0.0.2"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def configuration(directory: Path, port: int, upstream: int) -> str:
    """The document's, with a test's own ports and paths."""
    found = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    server = found[1]
    for text, replacement in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:5000", f"127.0.0.1:{upstream}"),
        ("/etc/nginx/", f"{directory}/"),
    ):
        assert text in server
        server = server.replace(text, replacement)
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"{user} daemon off; pid {directory}/pid; error_log {directory}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{server} }}\n"
    )


@contextlib.contextmanager
def nginx(directory: Path, port: int, upstream: int) -> Iterator[None]:
    """Behind which `upstream` is; its configuration, log and certificate are in `directory`."""
    pair = AUTHORITY.issue()
    (directory / "tls.crt").write_bytes(pair.certificate)
    (directory / "tls.key").write_bytes(pair.key)
    (directory / "nginx.conf").write_text(configuration(directory, port, upstream))
    command = ["nginx", "-c", str(directory / "nginx.conf"), "-p", str(directory)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


async def test_push_and_pull_through_nginx(start_server: StartServer, skopeo: Skopeo, tmp_path: Path) -> None:
    need("nginx")
    (tmp_path / "certs").mkdir()
    trusting = ssl.create_default_context(cafile=AUTHORITY.write(tmp_path / "certs" / "ca.crt"))
    port = free_port()
    async with receiving() as receiver:
        webhook = ("--webhooks", f"{receiver.url} actions=push")
        proxies = ("--trusted-proxies", "127.0.0.1", "--anonymous-bindings", "*=admin")
        server = await asyncio.to_thread(start_server, "--base", "scratch", "--workers", "1", *webhook, *proxies)
        with nginx(tmp_path, port, server.port):
            await asyncio.to_thread(copy_both_ways, port, tmp_path)
            await pretend(port, trusting)
            events = await receiver.wait(5)
        await asyncio.to_thread(server.stop)
    assert {event["target"]["url"].partition("/v2/")[0] for event in events} == {f"https://localhost:{port}"}
    assert {event["request"]["addr"] for event in events} == {"127.0.0.1", OTHER_CLIENT}
    assert {line["client"] for line in read_log(server, "request")} == {"127.0.0.1", OTHER_CLIENT}
    # nothing was collected on nginx's disk
    assert "temporary file" not in (tmp_path / "error.log").read_text()


def copy_both_ways(port: int, directory: Path) -> None:
    layer = layouts.tar({"data": os.urandom(20_000_000)})
    index = layouts.write_layout(directory / "layout", "v1", {"amd64": [layer]})
    reference, certificates = f"docker://localhost:{port}/team/app:v1", directory / "certs"
    copy = ["skopeo", "--insecure-policy", "copy", "--all", "--retry-times", "5"]
    run([*copy, "--dest-cert-dir", certificates, f"oci:{directory}/layout:v1", reference])
    run([*copy, "--src-cert-dir", certificates, reference, f"oci:{directory}/back:v1"])
    assert json.loads((directory / "back" / "index.json").read_text())["manifests"][0]["digest"] == index["digest"]


async def pretend(port: int, trusting: ssl.SSLContext) -> None:
    """A push by a client that says it is another, through another server."""
    headers = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Forwarded-Host": "evil.example"}
    url = f"https://localhost:{port}/v2/team/app/blobs/uploads/?digest={Digest.of(b'x')}"
    connector = aiohttp.TCPConnector(local_addr=(OTHER_CLIENT, 0))
    async with aiohttp.ClientSession(connector=connector) as client:
        async with client.post(url, data=b"x", headers=headers, ssl=trusting) as answer:
            assert answer.status == 201
            assert answer.headers["Location"].startswith("/v2/")
