"""Lets builds give way to processes that answer with stored content.

Niceness decides who gets more of a processor, not who gets it at once. Since Linux 6.6, a running process keeps its
processor for a slice of some milliseconds, whatever wakes up meanwhile. Since Linux 6.12, a process that wakes up with
a shorter slice takes the processor at once. So builds get longer slices than other processes, and the nicer they are,
the longer: a quick solve interrupts a worker, and an answer interrupts both. Much longer slices would make small tasks
wait for large ones.

`python -m builder.work.priority <niceness> <module> <argument>...` runs a module that gives way from its
first import on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import runpy
import struct
import sys

SLICE = 1_000_000
"""Nanoseconds per step of niceness. Other processes have 0.7 to 2.8 ms, depending on the number of processors."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""The number of the system call, for which the C library has no function."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period (sched_setattr(2))."""


def give_way(niceness: int) -> None:
    """Add `niceness` to this thread and everything that it starts (nice(2)), and let others interrupt it at once."""
    nice = os.nice(niceness)
    with contextlib.suppress(OSError):
        # a kernel or sandbox without it is no problem; kernels before 6.12 accept and ignore it
        _set_slice(nice, SLICE * niceness)


def _set_slice(nice: int, nanoseconds: int) -> None:
    """Set the slice. Raises OSError."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0)
    if ctypes.CDLL(None, use_errno=True).syscall(number, 0, attributes, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


if __name__ == "__main__":
    niceness, module = sys.argv[1:3]
    sys.argv[1:] = sys.argv[3:]
    give_way(int(niceness))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
