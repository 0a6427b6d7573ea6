"""Memory for the bodies of pushes: bounded together, shared between clients, and given back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import time
from pathlib import Path

import psutil
import pytest

from registry.http.budget import UploadBudget
from storage.errors import StorageBusy
from tests.support.server import Server, StartServer
from tests.support.servers.s3_server import ACCESS_KEY, REGION, SECRET_KEY, S3Server


async def test_what_does_not_fit_is_told_to_come_again() -> None:
    budget = UploadBudget(100, patience=0.05)
    async with budget.take("a", 50), budget.take("b", 50):
        with pytest.raises(StorageBusy, match="try again in 5 seconds"):
            async with budget.take("c", 1):
                pass
    async with budget.take("c", 50):
        pass


async def test_who_waits_gets_what_others_give_back() -> None:
    budget = UploadBudget(100, patience=30)
    entered = asyncio.Event()

    async def push() -> None:
        async with budget.take("c", 50):
            entered.set()

    async with budget.take("a", 50):
        async with budget.take("b", 50):
            waiting = asyncio.create_task(push())
            await asyncio.sleep(0.05)
            assert not entered.is_set()
        await asyncio.wait_for(waiting, 5)


async def test_one_client_leaves_half_to_others() -> None:
    budget = UploadBudget(100, patience=0.05)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(budget.take("a", 10))
        with pytest.raises(StorageBusy):
            await stack.enter_async_context(budget.take("a", 10))
        for _ in range(5):
            await stack.enter_async_context(budget.take("b", 10))


async def test_a_body_larger_than_a_share_is_taken_alone() -> None:
    budget = UploadBudget(100, patience=0.05)
    async with budget.take("a", 1000):
        with pytest.raises(StorageBusy):
            async with budget.take("a", 1):
                pass


async def test_a_waiter_that_is_cancelled_leaves_nothing() -> None:
    budget = UploadBudget(100, patience=30)
    async with budget.take("a", 50):
        waiting = asyncio.create_task(budget.take("a", 10).__aenter__())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with budget.take("a", 50):
        pass


@pytest.mark.services
def test_uploads_that_pause_do_not_fill_the_memory(
    start_server: StartServer, s3_server: S3Server, tmp_path: Path
) -> None:
    """Each has sent most of a part, which an S3 store takes only as a whole."""
    credentials = tmp_path / "credentials"
    credentials.write_text(f"{ACCESS_KEY}\n{SECRET_KEY}\n")
    bucket = ["--s3-bucket", s3_server.new_bucket(), "--s3-endpoint", s3_server.url, "--s3-region", REGION]
    flags = ["--s3-credentials", str(credentials), "--upload-memory", str(128 << 20), "--base", "scratch"]
    server = start_server(*bucket, *flags)
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    content = b"x" * (3 << 20)
    paused = [pause_upload(server, content, 8 << 20) for _ in range(100)]
    try:
        answers: list[bytes] = []
        deadline = time.monotonic() + 60
        while len(answers) < 80 and time.monotonic() < deadline:
            time.sleep(0.2)
            answers = [each for each in map(peek, paused) if each]
        assert process.memory_info().rss - before < 256 << 20
        assert len(answers) >= 80
        assert all(each.startswith(b"HTTP/1.1 503") and b"Retry-After: 5" in each for each in answers)
    finally:
        for each in paused:
            each.close()
    wait_for_upload(server)


def pause_upload(server: Server, content: bytes, length: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), 30)
    head = f"POST /v2/a/blobs/uploads/?digest=sha256:{'0' * 64} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode())
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while content:
            content = content[connection.send(content) :]
    return connection


def peek(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096, socket.MSG_PEEK)
    except OSError:
        return b""


def wait_for_upload(server: Server) -> None:
    """Once the paused ones are gone there is room again."""
    content = b"after all"
    digest = hashlib.sha256(content).hexdigest()
    head = f"POST /v2/a/blobs/uploads/?digest=sha256:{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        assert connection.recv(4096).startswith(b"HTTP/1.1 201")
