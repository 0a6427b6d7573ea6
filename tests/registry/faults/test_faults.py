"""A server process whose parts are killed while it builds, and whose clients hang up: the next pull has the image."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from storage.disk.files import TEMPORARY
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.registry.asking import Answer, ask, manifest_path
from tests.support.registry.stored import assert_blobs_are_sound, builds, leftovers, read_log
from tests.support.server import Server, StartServer
from tests.support.servers.channel_server import ChannelServer, in_a_thread

BIG = manifest_path("big")
SMALL = manifest_path("small")
ARCHIVE = "big-1.0-0.conda"
DEADLINE = 60


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel with a package that takes long enough to transcode to be met at it."""
    directory = tmp_path_factory.mktemp("channel")
    big = Package("big", files={f"share/big/{number}": os.urandom(8 << 20) for number in range(8)})
    small = Package("small", files={"share/small": b"small\n"})
    asyncio.run(make_channel(directory, [big, small]))
    return directory


@pytest.fixture
def channel(packages: Path) -> Iterator[ChannelServer]:
    with in_a_thread(ChannelServer(packages)) as server:
        yield server


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Removed at the end: what all these tests store would be gigabytes."""
    yield tmp_path / "data"
    shutil.rmtree(tmp_path / "data")


@pytest.fixture
def start(data_dir: Path, start_server: StartServer, channel: ChannelServer) -> Callable[..., Server]:
    """A server over the channel, with more flags."""
    flags = ("--channels", channel.url, "--base", "scratch", "--workers", "2")
    return lambda *more: start_server(*flags, *more, data_dir=data_dir)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def solver(server: Server) -> psutil.Process:
    [process] = [each for each in children(server) if "builder.solve.process" in each.cmdline()]
    return process


def worker_at_work(server: Server) -> psutil.Process | None:
    """The process that writes a fragment at this moment."""
    for process in children(server):
        with suppress(psutil.Error):
            if any(_is_unfinished_fragment(server, file.path) for file in process.open_files()):
                return process
    return None


def _is_unfinished_fragment(server: Server, path: str) -> bool:
    return path.startswith(str(server.data_dir / "fragments")) and Path(path).name.startswith(TEMPORARY)


def met_at_work(server: Server) -> psutil.Process:
    found: list[psutil.Process] = []

    def look() -> bool:
        found.extend(filter(None, [worker_at_work(server)]))
        return bool(found)

    until(look)
    return found[0]


def connections(server: Server) -> int:
    """How many clients are connected to the server's processes."""
    found = 0
    for process in (psutil.Process(server.process.pid), *children(server)):
        here = process.net_connections("tcp")
        found += sum(each.laddr.port == server.port and each.status == psutil.CONN_ESTABLISHED for each in here)
    return found


def completed(server: Server) -> bool:
    return [build.status for build in builds(server)] == ["COMPLETED"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_fifty_pulls_of_a_new_image_make_one_build(
    start: Callable[..., Server], channel: ChannelServer, processes: str
) -> None:
    server = start("--processes", processes)
    held = channel.hold(ARCHIVE)
    with ThreadPoolExecutor(50) as threads:
        pulls = [threads.submit(ask, server, BIG) for _ in range(50)]
        assert held.reached.wait(DEADLINE)
        until(lambda: connections(server) == 50)
        held.released.set()
        answers = {(pull.result().status, pull.result().body) for pull in pulls}
    assert [status for status, _ in answers] == [200]
    assert completed(server)
    assert len(channel.seen(ARCHIVE)) == 1


def test_clients_that_hang_up_do_not_stop_the_build(start: Callable[..., Server], channel: ChannelServer) -> None:
    server = start("--answer-within", "1", "--trickle-interval", "0.1")
    held = channel.hold(ARCHIVE)
    early, late = (HTTPConnection(urlsplit(server.url).netloc) for _ in range(2))
    early.request("GET", BIG)
    assert held.reached.wait(DEADLINE)
    early.close()
    late.request("GET", BIG)
    answer = late.getresponse()
    assert answer.read(5) == b'{"sch'
    answer.close()
    late.close()
    until(lambda: [line["status"] for line in read_log(server, "request")] == [499, 499])
    held.released.set()
    until(lambda: completed(server))
    assert ask(server, BIG).status == 200
    assert len(builds(server)) == 1


def test_a_killed_worker_is_replaced(start: Callable[..., Server], threads: ThreadPoolExecutor) -> None:
    server = start()
    pull = threads.submit(ask, server, BIG)
    met_at_work(server).kill()
    assert pull.result().status == 200
    assert completed(server)
    assert_blobs_are_sound(server.data_dir)


def test_a_worker_that_is_killed_each_time_is_told_and_the_next_pull_works(
    start: Callable[..., Server], threads: ThreadPoolExecutor
) -> None:
    server = start("--transient-failure-memory", "1")
    pull: Future[Answer] = threads.submit(ask, server, BIG)
    while not pull.done():
        if worker := worker_at_work(server):
            worker.kill()
    answer = pull.result()
    assert answer.status == 404
    [error] = answer.json()["errors"]
    assert error["code"] == "MANIFEST_UNKNOWN"
    assert "the worker process died while transcoding big" in error["message"]
    assert leftovers(server.data_dir) == []
    [failed] = read_log(server, "build failed")
    assert (failed["error"], failed["build"] in error["message"]) == ("WorkerLost", True)
    # in the memory of that failure other images are built
    assert ask(server, SMALL).status == 200
    until(lambda: ask(server, BIG).status == 200)
    assert_blobs_are_sound(server.data_dir)


def test_a_killed_solver_is_replaced(
    start: Callable[..., Server], channel: ChannelServer, threads: ThreadPoolExecutor
) -> None:
    server = start()
    held = channel.hold("")
    pull = threads.submit(ask, server, SMALL)
    assert held.reached.wait(DEADLINE)
    solver(server).kill()
    held.released.set()
    assert pull.result().status == 200
    assert completed(server)


def test_a_killed_server_goes_on_where_it_was(
    start: Callable[..., Server], channel: ChannelServer, threads: ThreadPoolExecutor
) -> None:
    server = start()
    pull = threads.submit(ask, server, BIG)
    met_at_work(server)
    server.kill()
    with pytest.raises((HTTPException, OSError)):
        pull.result()
    [begun] = builds(server)
    assert begun.status == "BUILDING"
    server.restart()
    until(lambda: completed(server))
    assert [build.id for build in builds(server)] == [begun.id]
    assert len(channel.seen(ARCHIVE)) == 1, "an archive that is there is not downloaded again"
    assert ask(server, BIG).status == 200
    assert_blobs_are_sound(server.data_dir)
    assert leftovers(server.data_dir) == []


def test_another_process_takes_over_from_a_killed_one(start: Callable[..., Server], channel: ChannelServer) -> None:
    server = start("--processes", "2")
    held = channel.hold(ARCHIVE)
    with ThreadPoolExecutor(8) as threads:
        pulls = [threads.submit(ask, server, BIG) for _ in range(8)]
        assert held.reached.wait(DEADLINE)
        [begun] = builds(server)
        psutil.Process(begun.pid).kill()
        held.released.set()
        for pull in pulls:
            # those who were connected to the killed process have lost their connection
            with suppress(HTTPException, OSError):
                assert pull.result().status == 200
    assert ask(server, BIG).status == 200
    [ended] = builds(server)
    assert (ended.id, ended.status) == (begun.id, "COMPLETED")
    assert ended.pid != begun.pid


def test_a_server_killed_in_a_download_goes_on_with_it(start: Callable[..., Server], channel: ChannelServer) -> None:
    server = start("--download-seconds", "5")
    channel.fail(ARCHIVE, cut_after=20 << 20, stall=True)
    connection = HTTPConnection(urlsplit(server.url).netloc)
    connection.request("GET", BIG)
    until(lambda: [part for part in server.data_dir.glob("archives/*.part") if part.stat().st_size == 20 << 20])
    server.kill()
    connection.close()
    server.restart()
    until(lambda: completed(server))
    assert [request.headers.get("Range") for request in channel.seen(ARCHIVE)] == [None, f"bytes={20 << 20}-"]
    assert leftovers(server.data_dir) == []


def test_a_stopped_server_leaves_its_build_to_the_next(
    start: Callable[..., Server], channel: ChannelServer, threads: ThreadPoolExecutor
) -> None:
    server = start("--shutdown-seconds", "1")
    held = channel.hold(ARCHIVE)
    pull = threads.submit(ask, server, BIG)
    assert held.reached.wait(DEADLINE)
    assert server.stop(signal.SIGTERM) == 0
    with pytest.raises((HTTPException, OSError)):
        pull.result()
    [begun] = builds(server)
    assert begun.status == "BUILDING"
    server.start()
    held.released.set()
    until(lambda: completed(server))
    assert [build.id for build in builds(server)] == [begun.id]
    assert ask(server, BIG).status == 200
    assert leftovers(server.data_dir) == []
