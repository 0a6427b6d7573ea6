"""Processes that give way: those of builds, to those that answer what is there already.

Niceness says who gets more of a processor, not who gets it at once. Since Linux 6.6 a process that runs keeps its
processor for its slice of some milliseconds, whatever wakes up meanwhile. Since Linux 6.12 one that wakes with a
shorter slice takes the processor at once. So builds take longer slices than others have, and the nicer the longer: a
quick solve interrupts a worker, and an answer both. Slices much longer than these would keep small tasks waiting for
large ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct

SLICE = 1_000_000
"""Nanoseconds for each step of niceness. Others have 0.7 to 2.8 ms, by the number of processors."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""The number of the system call, which the C library has no function for."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period (sched_setattr(2))."""


def give_way(niceness: int) -> None:
    """Add `niceness` to this thread's and that of all that it starts (nice(2)), and let others interrupt it at once."""
    nice = os.nice(niceness)
    with contextlib.suppress(OSError):
        # a kernel or a sandbox that does not know it does without; a kernel before 6.12 takes it and ignores it
        _set_slice(nice, SLICE * niceness)


def _set_slice(nice: int, nanoseconds: int) -> None:
    """Raises OSError."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0)
    if ctypes.CDLL(None, use_errno=True).syscall(number, 0, attributes, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
