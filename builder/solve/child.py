"""The solver's process as seen by its parent: its requests in flight, its log, its memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

import structlog

from builder.network.guarding_proxy import GuardingProxy
from builder.solve.frames import OUT_OF_MEMORY, read_frame, write_frame
from builder.solve.indexes.folder import RepodataFolder, format_size
from builder.solve.settings import SolverSettings

log = structlog.get_logger(__name__)

GRACE = 5.0
"""Seconds beyond the time limit in which the process itself may still report that time is up."""
_LAST_WORDS = 2.0
"""Seconds for which an ended process's log is read on."""
_WATCH = 0.2
"""Seconds between two checks of the process's memory."""

Cause = Literal["died", "crashed", "time", "memory", "disk"]
"""`died` means by somebody else's signal, `crashed` by a fault of its own, `time` that it did not even report that a
request's time was up: what it does for one request keeps it from answering any."""
_FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})


class Gone(Exception):
    """Tells the solver that the process ended before it answered, while it was reading these channels."""

    def __init__(self, cause: Cause, reading: Sequence[str] = ()) -> None:
        super().__init__(cause)
        self.cause = cause
        self.reading = tuple(reading)


class Child:
    """One process: its requests in flight, its log, its memory."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        settings: SolverSettings,
        folder: RepodataFolder,
        redact: Callable[[str], str],
    ) -> None:
        self.gone = False
        self._process = process
        self._reader = reader
        self._writer = writer
        self._settings = settings
        self._folder = folder
        self._redact = redact
        self.cause: Cause = "died"
        """Why the process is gone, if it is."""
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: dict[int, list[str]] = {}
        self._busy = asyncio.Event()
        self._log = asyncio.create_task(self._copy_log())
        self._fault = asyncio.create_task(self._note_fault())
        self._tasks = [self._log, self._fault, *map(asyncio.create_task, (self._read(), self._watch()))]

    @classmethod
    async def start(
        cls,
        settings: SolverSettings,
        proxy: GuardingProxy,
        folder: RepodataFolder,
        file_size: int,
        redact: Callable[[str], str],
    ) -> Self:
        """Start a process. It may write at most `file_size` bytes into one file."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack, theirs:
            stack.enter_context(ours)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "builder.work.priority", str(settings.priority)),
                "builder.solve.process",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                # the directory from which this package was imported, installed or not
                cwd=Path(__file__).parents[2],
            )
            stack.pop_all()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        configuration = {
            "repodata": str(settings.repodata.absolute()),
            "channel_alias": settings.policy.alias,
            "proxy": proxy.url,
            "credentials": str(settings.credentials.absolute()) if settings.credentials else None,
            "owner": settings.logins.owner,
            "held": [asdict(each) for each in settings.logins.held],
            "glibc": settings.glibc,
            "memory": settings.memory,
            "reading": settings.seconds if settings.reading is None else settings.reading,
            "repodata_size": file_size,
            "repodata_disk": settings.repodata_disk,
            "repodata_channels": settings.repodata_channels,
            "connections": proxy.most_each,
        }
        writer.write(write_frame(configuration))
        return cls(process, reader, writer, settings, folder, redact)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send `request` and return the reply. Raises Gone."""
        if self.gone:
            raise Gone(self.cause)
        number = next(self._numbers)
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        self._busy.set()
        try:
            self._writer.write(write_frame({**request, "id": number}))
            reply: dict[str, Any] = await future
            return reply
        finally:
            self._pending.pop(number, None)
            self._reading.pop(number, None)
            if not self._pending:
                self._busy.clear()

    def kill(self, cause: Cause) -> None:
        if not self.gone:
            self.cause = cause
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._end()

    async def close(self) -> None:
        """End the process by closing its socket, or by force if it does not exit."""
        self._end()
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self) -> None:
        self.gone = True
        for number, future in self._pending.items():
            if not future.done():
                future.set_exception(Gone(self.cause, self._reading.get(number, ())))

    async def _read(self) -> None:
        try:
            while (reply := await read_frame(self._reader)) is not None:
                number = reply["id"]
                future = self._pending.get(number)
                if "reading" in reply:
                    self._reading[number] = reply["reading"]
                elif future and not future.done():
                    future.set_result(reply)
        finally:
            # its last words say why it ended
            await asyncio.wait({self._log, self._fault}, timeout=_LAST_WORDS)
            # it may still run, if what it sent cannot be read
            self.kill(self.cause)

    async def _note_fault(self) -> None:
        if -await self._process.wait() in _FAULTS and self.cause == "died" and not self.gone:
            self.cause = "crashed"

    async def _watch(self) -> None:
        """Check its unfinished files and its whole memory, including mapped files, which the kernel does not limit."""
        while not self.gone:
            await self._busy.wait()
            # in a thread: the system answers late while the process changes what memory it has
            measured = await asyncio.to_thread(self._measure)
            if measured is None:
                return
            resident, unfinished = measured
            if resident > self._settings.memory:
                log.warning("solver process killed: it uses too much memory", bytes=resident)
                self.kill("memory")
            if unfinished > self._settings.repodata_disk:
                log.warning("solver process killed: it writes too much", limit=format_size(self._folder.most))
                self.kill("disk")
            await asyncio.sleep(_WATCH)

    def _measure(self) -> tuple[int, int] | None:
        """Return the bytes of its memory and of its unfinished files; None if it is gone."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE"), self._folder.measure_unfinished(self.pid)

    async def _copy_log(self) -> None:
        """Copy what the process writes to its stderr into this process's log, without secrets."""
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:
                continue
            if not line:
                return
            if line.startswith(OUT_OF_MEMORY.encode()) and not self.gone:
                self.cause = "memory"
            log.info("solver process says", line=self._redact(line.decode(errors="replace").rstrip()))
