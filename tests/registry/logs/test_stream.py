"""A log that nobody reads stops nobody, and tells what is missing from it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry.logs.stream import LogStream


def read_all(descriptor: int) -> bytes:
    content = b""
    while data := os.read(descriptor, 1 << 16):
        content += data
    return content


def count_lines(content: bytes) -> int:
    """Lines that came, and those that are told to be dropped."""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    told: list[int] = [json.loads(each)["count"] for each in lines if b"dropped" in each]
    return len(lines) - len(told) + sum(told)


def test_what_is_written_comes_out_in_order() -> None:
    reader, writer = os.pipe()
    stream = LogStream(writer, terminal=False)
    for number in range(100):
        stream.write(f"line {number}\n")
    stream.close()
    os.close(writer)
    assert read_all(reader).decode().splitlines() == [f"line {number}" for number in range(100)]
    os.close(reader)


def test_a_reader_that_does_not_read_is_not_waited_for_and_told_what_it_missed() -> None:
    reader, writer = os.pipe()
    stream = LogStream(writer, terminal=False, kept_bytes=100_000)
    line = "x" * 99 + "\n"
    for _ in range(10_000):
        stream.write(line)
    os.set_blocking(reader, False)
    content = b""
    deadline = time.monotonic() + 30
    while count_lines(content) < 10_000 and time.monotonic() < deadline:
        try:
            content += os.read(reader, 1 << 16)
        except BlockingIOError:
            time.sleep(0.01)
    assert count_lines(content) == 10_000
    told = json.loads(next(each for each in content.splitlines() if b"dropped" in each))
    assert 0 < told["count"] < 10_000
    assert told["level"] == "warning"
    stream.write("after\n")
    stream.close()
    os.close(writer)
    os.set_blocking(reader, True)
    assert read_all(reader) == b"after\n"
    os.close(reader)


def test_a_reader_that_is_gone_ends_nothing() -> None:
    reader, writer = os.pipe()
    stream = LogStream(writer, terminal=False)
    os.close(reader)
    for _ in range(100):
        stream.write("nobody hears it\n")
    stream.close()
    os.close(writer)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_server_whose_log_nobody_reads_goes_on(tmp_path: Path, processes: str) -> None:
    command = [sys.executable, "-m", "registry.cli", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    command += ["--base", "scratch", "--processes", processes, "--log-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().partition(";")[0].rpartition(":")[2])
            # a pipe takes 64 KiB, and each request's line has some 250 bytes
            for _ in range(1500):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("GET", "/v2/")
                assert connection.getresponse().status == 200
                connection.close()
        finally:
            server.terminate()
            server.communicate(timeout=60)
    assert server.returncode == 0
