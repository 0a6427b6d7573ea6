"""Runs uv: one solve, as a process of its own with bounds on time, memory, files and output, and no way out but one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from builder.errors import SolveLimit
from storage.cancellation import to_end
from storage.disk.files import mark_used, temporary_directory

_MOST_OUTPUT = 16 << 20
_MOST_WORDS = 64 << 10
_LARGEST_FILE = 1 << 30
_FILES = 1024
_LONGER = 30
"""Seconds by which uv waits longer for an answer than it may run: it has nothing to say about that."""
_WANTED = "wanted.in"
_BOUNDS = "provided.txt"


class UvFailed(Exception):
    """uv found no solution; the text is what it said."""


@dataclass(frozen=True)
class Question:
    """`python` is a whole version; `platform` is one that uv knows, such as x86_64-manylinux_2_28.

    `constraints` are lines of a file. `proxy` leads to the gateway, `index` is the address there.
    """

    requirements: Sequence[str]
    constraints: Sequence[str]
    python: str
    platform: str
    index: str
    proxy: str


@functools.cache
def find_version() -> str:
    return metadata.version("uv")


@functools.cache
def find_program() -> str:
    """The program of the package uv, which is where it was installed."""
    from uv import find_uv_bin

    return str(find_uv_bin())


@dataclass(frozen=True)
class Uv:
    """`cache` is uv's own. `working` is for what it is given."""

    cache: Path
    working: Path
    seconds: float
    memory: int

    async def solve(self, question: Question) -> bytes:
        """Return the lock (PEP 751). Raises UvFailed, SolveLimit."""
        await asyncio.to_thread(mark_used, self.cache / "CACHEDIR.TAG")
        with contextlib.ExitStack() as stack:
            # uv runs in this folder, from which a relative path leads elsewhere
            folder = (await to_end(asyncio.to_thread(self._write_files, stack, question))).absolute()
            return await self._run(self._write_command(question, folder), question.proxy, folder)

    def _write_files(self, stack: contextlib.ExitStack, question: Question) -> Path:
        folder = stack.enter_context(temporary_directory(self.working))
        for name, lines in ((_WANTED, question.requirements), (_BOUNDS, question.constraints)):
            (folder / name).write_text("".join(f"{each}\n" for each in lines))
        return folder

    def _write_command(self, question: Question, folder: Path) -> list[str]:
        return [
            find_program(),
            *("pip", "compile", str(folder / _WANTED), "-c", str(folder / _BOUNDS), "--format", "pylock.toml"),
            *("--no-config", "--no-header", "--no-progress", "--color", "never", "-q"),
            *("--only-binary", ":all:", "--no-sources", "--no-python-downloads"),
            *("--python", sys.executable, "--python-version", question.python),
            *("--python-platform", question.platform, "--index-strategy", "first-index"),
            *(
                "--default-index",
                question.index,
                "--cache-dir",
                str(self.cache.absolute()),
                "--keyring-provider",
                "disabled",
            ),
        ]

    async def _run(self, command: Sequence[str], proxy: str, folder: Path) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            # nothing of the server's environment: settings for uv, logins, netrc and keyrings are there
            env={
                "PATH": os.defpath,
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "HTTP_PROXY": proxy,
                "HTTPS_PROXY": proxy,
                "ALL_PROXY": proxy,
                "NETRC": os.devnull,
                "UV_NO_WRAP": "1",
                "UV_HTTP_RETRIES": "0",
                "UV_HTTP_TIMEOUT": f"{self.seconds + _LONGER:.0f}",
                "UV_CONCURRENT_DOWNLOADS": "32",
                "TOKIO_WORKER_THREADS": "2",
            },
        )
        try:
            _limit(process.pid, self.memory)
            async with asyncio.timeout(self.seconds):
                output, words = await _read_both(process)
                status = await process.wait()
        except TimeoutError:
            raise SolveLimit("time", f"{self.seconds:g} s", "pypi_seconds") from None
        finally:
            await _end(process)
        if status == 0:
            return output
        text = words.decode("utf-8", "replace")
        if status < 0 or "memory allocation" in text:
            raise SolveLimit("memory", f"{self.memory >> 20} MiB", "pypi_memory")
        raise UvFailed(text)


async def _read_both(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    assert process.stdout
    assert process.stderr
    return await _read(process.stdout, _MOST_OUTPUT), await _read(process.stderr, _MOST_WORDS)


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    """Read to the end; what exceeds `most` is left out."""
    content = bytearray()
    while chunk := await stream.read(1 << 16):
        content += chunk[: most - len(content)]
    return bytes(content)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _limit(pid: int, memory: int) -> None:
    """Let the kernel limit a process that has just begun: what runs between fork and exec may hang among threads."""
    with contextlib.suppress(ProcessLookupError):
        for kind, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_DATA, memory),
            (resource.RLIMIT_FSIZE, _LARGEST_FILE),
            (resource.RLIMIT_NOFILE, _FILES),
        ):
            resource.prlimit(pid, kind, (most, most))
