"""How many heaps the C library keeps for the threads of a server's process."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""
MOST = 2


def bound_arenas() -> None:
    """Let all threads share MOST heaps. Does nothing where the C library is not glibc.

    glibc gives up to eight heaps to each processor (mallopt(3)), and each of some 40 threads keeps what it freed in
    one of its own: several MB that no other thread uses. Python holds its lock while it allocates, so few threads ever
    wait for a heap.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_ARENA_MAX, MOST)
