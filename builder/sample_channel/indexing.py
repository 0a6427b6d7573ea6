"""Indexes a channel in a process of its own: `python -m builder.sample_channel.indexing DIR`.

Threads of rattler's that are still there when an interpreter ends may abort it, after all its work is done. So this
process ends without waiting for anything, and the caller's has none of them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import traceback
from pathlib import Path

from builder.errors import SampleChannelFailed


def index(directory: Path) -> None:
    """Write the channel's indexes. Raises SampleChannelFailed."""
    command = [sys.executable, "-m", "builder.sample_channel.indexing", str(directory.absolute())]
    # the directory from which this package was imported, installed or not
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SampleChannelFailed(f"its index cannot be written: {lines[-1]}")


def main() -> None:
    from rattler.index import index_fs

    try:
        asyncio.run(index_fs(Path(sys.argv[1]), write_zst=True, write_shards=True))
    except BaseException:  # noqa: BLE001 - the caller reads what is written here
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
