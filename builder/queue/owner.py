"""Who works on a build: one engine of one process, named so that no other ever has the same name.

    <host>/<boot id>/<PID namespace>/<pid>/<start time>/<random>

The host name is for people. Two machines may share it, a process id means something in its PID namespace alone (in a
container it is 1 or 7 for everybody), and after a reboot both begin anew. So whether a process is gone can be seen only
from the same boot of the same kernel and from the same PID namespace. All others are known by their heartbeat.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """One engine of one process. `boot` and `namespace` are empty where the kernel does not tell them."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    """In clock ticks since boot; empty when it is not known."""
    random: str

    @classmethod
    def new(cls, proc: Path = PROC) -> Self:
        """A new engine of this process."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname().replace("/", "-")[:64],
            boot=_read_boot_id(proc),
            namespace=_read_pid_namespace(proc),
            pid=pid,
            started=_start_time(proc, pid) or "",
            random=secrets.token_hex(6),
        )

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for a name of another form, as older versions wrote it."""
        match text.split("/"):
            case [host, boot, namespace, pid, started, random] if pid.isascii() and pid.isdecimal():
                return cls(host, boot, namespace, int(pid), started, random)
        return None

    def __str__(self) -> str:
        return "/".join((self.host, self.boot, self.namespace, str(self.pid), self.started, self.random))

    def can_see(self, other: Owner) -> bool:
        """Whether the process id of `other` means the same process here."""
        return bool(self.boot and self.namespace) and (self.boot, self.namespace) == (other.boot, other.namespace)


def is_running(owner: Owner, proc: Path = PROC, signal: Callable[[int, int], None] = os.kill) -> bool | None:
    """Whether the process of `owner`, whose process ids are also ours, still runs; None where that cannot be seen."""
    try:
        signal(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # it is another user's, which is enough to know that there is one
        pass
    started = _start_time(proc, owner.pid)
    if started is None or not owner.started:
        # /proc may hide other users' processes (hidepid, proc(5))
        return None
    return started == owner.started


def _start_time(proc: Path, pid: int) -> str | None:
    """In clock ticks since boot, from /proc/<pid>/stat (proc(5)); empty for a zombie, None when it cannot be read."""
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # the second field is the command in parentheses and may itself hold spaces and parentheses
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


def _read_boot_id(proc: Path) -> str:
    """A random UUID that the kernel makes at each boot (random(4))."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read_pid_namespace(proc: Path) -> str:
    """The device and inode of the PID namespace: two processes of one kernel have the same when they share it
    (namespaces(7)).
    """
    try:
        status = (proc / "self/ns/pid").stat()
    except OSError:
        return ""
    return f"{status.st_dev}-{status.st_ino}"
