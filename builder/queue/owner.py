"""Who works on a build: one engine in one process, under a name that no other one ever has.

    <host>/<boot id>/<PID namespace>/<pid>/<start time>/<random>

The host name is for people, and two machines may share it. A process id has a meaning only within its PID namespace (in
a container it is often 1 or 7), and both start anew after a reboot. So only a process in the same boot of the same
kernel and in the same PID namespace can see whether another is gone. All others are known by their heartbeats.
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
    """One engine in one process. `boot` and `namespace` are empty if the kernel does not reveal them."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    """In clock ticks since boot; empty if unknown."""
    random: str

    @classmethod
    def new(cls, proc: Path = PROC) -> Self:
        """Name a new engine in this process."""
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
        """Parse a name. Returns None for any other form, such as an older version's."""
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
    """Whether the process of `owner`, whose process ids are valid here, still runs; None if that cannot be seen."""
    try:
        signal(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # the process exists and belongs to another user, which is all that matters
        pass
    started = _start_time(proc, owner.pid)
    if started is None or not owner.started:
        # /proc may hide other users' processes (hidepid, proc(5))
        return None
    return started == owner.started


def _start_time(proc: Path, pid: int) -> str | None:
    """Read the start time in clock ticks since boot (/proc/<pid>/stat, proc(5)).

    Empty for a zombie, None if unreadable.
    """
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # the second field is the command in parentheses, and may itself hold spaces and parentheses
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


def _read_boot_id(proc: Path) -> str:
    """Read the random UUID that the kernel makes at each boot (random(4))."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read_pid_namespace(proc: Path) -> str:
    """Identify the PID namespace by its device and inode.

    Two processes of one kernel have equal values if they share it (namespaces(7)).
    """
    try:
        status = (proc / "self/ns/pid").stat()
    except OSError:
        return ""
    return f"{status.st_dev}-{status.st_ino}"
