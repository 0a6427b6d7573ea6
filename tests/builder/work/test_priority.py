"""What builds run in gives way to what answers."""

import os
import platform
import struct
import subprocess
import sys

import pytest

from builder.work.priority import SLICE

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
READ = f"""
import ctypes, os
from builder.work.priority import give_way
give_way(3)
room = ctypes.create_string_buffer(48)
assert ctypes.CDLL(None).syscall({SCHED_GETATTR.get(platform.machine())}, 0, room, 48, 0) == 0
print(os.nice(0), room.raw.hex())
"""


def test_a_process_that_gives_way_is_nicer() -> None:
    assert int(run("from builder.work.priority import give_way; import os; give_way(3); print(os.nice(0))")) == (
        min(os.nice(0) + 3, 19)
    )


@pytest.mark.skipif(
    platform.machine() not in SCHED_GETATTR or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12),
    reason="slices are a process's own since Linux 6.12",
)
def test_others_interrupt_it_at_once() -> None:
    nice, attributes = run(READ).split()
    _, policy, _, its_nice, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", bytes.fromhex(attributes))
    assert (policy, its_nice, runtime) == (os.SCHED_OTHER, int(nice), 3 * SLICE)


def test_a_kernel_that_refuses_is_no_matter() -> None:
    program = (
        "from builder.work import priority\n"
        "priority._set_slice = lambda *_: (_ for _ in ()).throw(OSError(1, 'not permitted'))\n"
        "priority.give_way(1)\n"
        "print('goes on')"
    )
    assert run(program) == "goes on"


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
