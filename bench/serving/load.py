"""Load generators and where they run: the client on one core, the server on another."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

CORES = sorted(os.sched_getaffinity(0))
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def in_turn(measured: Sequence[Callable[[], float]], runs: int) -> list[float]:
    """The median of each over `runs` rounds, in turn, so that other load on the machine affects all alike."""
    rounds = [[measure() for measure in measured] for _ in range(runs)]
    return [statistics.median(each) for each in zip(*rounds, strict=True)]


def on_core(index: int) -> list[str]:
    """The start of a command that runs on one of the cores that this process may use."""
    return ["taskset", "-c", str(CORES[index])] if shutil.which("taskset") else []


@contextlib.contextmanager
def this_process_on_core(index: int) -> Iterator[None]:
    """Pin this process to a core; threads started in the block stay there."""
    os.sched_setaffinity(0, {CORES[index]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def wrk(
    url: str,
    figure: str,
    *,
    connections: int,
    seconds: int,
    headers: Sequence[str] = (),
    pinned: bool = True,
) -> float:
    """A figure from wrk's report, in units of one; on the last core, or unpinned with one thread per core."""
    threads = 1 if pinned else min(connections, len(CORES))
    command = [*(on_core(-1) if pinned else []), "wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}"]
    command += [word for header in headers for word in ("-H", header)]
    report = subprocess.run([*command, "--timeout", "30", url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in report or "Socket errors" in report:
        raise RuntimeError(f"{url}: {report}")
    found = re.search(rf"{figure}:\s+([0-9.]+)([A-Z]*)", report)
    assert found, report
    return float(found[1]) * UNITS.get(found[2], 1)


def ab_head(url: str, *, connections: int, seconds: int) -> float:
    """HEAD requests per second on kept connections (wrk would wait for bodies that HEAD answers do not have)."""
    command = [*on_core(-1), "ab", "-q", "-i", "-k", "-c", str(connections), "-t", str(seconds), "-n", "10000000", url]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    complete, failed, kept = (
        int(found[1]) if (found := re.search(rf"{name} requests:\s+(\d+)", report)) else 0
        for name in ("Complete", "Failed", "Keep-Alive")
    )
    # requests running at the end are counted as complete, but not as kept
    if "Non-2xx" in report or failed or not complete or kept < complete - connections:
        raise RuntimeError(f"{url}: {report}")
    found = re.search(r"Requests per second:\s+([0-9.]+)", report)
    assert found, report
    return float(found[1])


def wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")
