"""Servers as processes: what a signal does, and several of them on one port."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from registry.serving.listening import CannotListen
from registry.serving.processes import reserve_port
from storage.digest import Digest
from tests.support.server import StartServer

PROGRAM = """
import asyncio, sys
from pathlib import Path
from registry.serving.listening import announce
from registry.serving.processes import serve_processes
from registry.settings.loading import load

if __name__ == "__main__":
    flags = {"port": 0, "processes": 2, "workers": 1, "data_directory": Path(sys.argv[1]), "base": "scratch"}
    asyncio.run(serve_processes(load(flags).settings, announce))
"""


OTHER = """
import socket, sys
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


def status(url: str) -> int:
    try:
        # a connection of its own each time, so that the kernel deals anew
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Connection": "close"}), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process that looks after two servers, and their URL."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert "condery listens on http://" in line
        yield process, line.split()[3].rstrip(";")
        process.kill()


def servers(parent: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its children that serve; there is also multiprocessing's own resource tracker."""
    found = []
    for each in psutil.Process(parent.pid).children():
        try:
            if "spawn_main" in " ".join(each.cmdline()):
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


def test_dead_server_is_replaced_and_all_end_together(parent: tuple[subprocess.Popen[str], str]) -> None:
    process, url = parent
    before = servers(process)
    assert len(before) == 2
    assert {status(url + "/healthz") for _ in range(10)} == {200}
    before[0].kill()
    while len(now := servers(process)) < 2 or before[0].pid in [each.pid for each in now]:
        time.sleep(0.05)
    assert status(url + "/healthz") == 200
    everybody = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert psutil.wait_procs(everybody, timeout=20)[1] == []


def test_servers_end_when_what_looks_after_them_is_killed(parent: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = parent
    everybody = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert psutil.wait_procs(everybody, timeout=40)[1] == []


def test_port_that_another_program_has_is_told() -> None:
    with reserve_port("127.0.0.1", 0) as port:
        assert port > 0
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        port = int(other.stdout.readline())
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            with reserve_port("127.0.0.1", port):
                pass
        other.communicate()


async def test_sigterm_lets_a_running_request_finish(start_server: StartServer) -> None:
    """A client that reads slowly gets all of a blob that the server began to send before it was told to stop."""
    server = await asyncio.to_thread(start_server, "--base", "scratch", "--workers", "1")
    content = os.urandom(40_000_000)
    digest = Digest.of(content)
    async with aiohttp.ClientSession() as client:
        async with client.post(f"{server.url}/v2/a/blobs/uploads/?digest={digest}", data=io.BytesIO(content)) as answer:
            assert answer.status == 201
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 16)
    writer.write(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    ending = asyncio.ensure_future(asyncio.to_thread(server.stop))
    while True:
        try:
            _, probe = await asyncio.open_connection("127.0.0.1", server.port)
        except ConnectionRefusedError:
            break
        probe.close()
        await asyncio.sleep(0.02)
    assert not ending.done()
    assert await reader.readexactly(len(content)) == content
    writer.close()
    await writer.wait_closed()
    assert await ending == 0
