"""A worker that is killed in each stage of an environment's build: another goes on, or the build says what it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder.solve.own import OwnSolvers
from builder.work.pool import WorkerPool
from storage.environments.vocabulary import BuildStatus
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.wide import WIDE

TASKS = ("reading", "transcoding", "writing the environment layer") if WIDE else ("transcoding",)
ALWAYS = "always"


def die(marker: Path, often: int, task: Callable[[], Any]) -> Any:
    """Do a task, but be killed the first times, of which `marker` has a byte each."""
    with open(marker, "a+b") as file:
        if file.tell() < often:
            file.write(b"x")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return task()


async def test_a_worker_is_killed_in_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("solve", *(task.split()[0] for task in TASKS), ALWAYS)
    packages = [Package(name, files={"share/name": File(name.encode())}) for name in names]
    channel = await make_channel(tmp_path / "channel", packages)
    do, solve = WorkerPool._do, OwnSolvers.solve
    stage, often = "", 0

    def do_once_killed(self: WorkerPool, doing: str, task: Callable[[], Any]) -> Any:
        if stage and doing.startswith(stage):
            task = partial(die, tmp_path / f"killed {stage.split()[0]} {often}", often, task)
        return do(self, doing, task)

    async def solve_killed(self: OwnSolvers, *args: Any, **kwargs: Any) -> Any:
        if stage == "solve" and (pid := self.shared.pid) is not None:
            os.kill(pid, signal.SIGKILL)
            (tmp_path / "killed solve 1").write_bytes(b"x")
        return await solve(self, *args, **kwargs)

    async with open_service(tmp_path / "data", channel, workers=1) as service:
        named = service.environments
        assert named is not None
        # its process is there when it is killed
        await service.builder.check(write_down(service, ALWAYS).spec)
        monkeypatch.setattr(WorkerPool, "_do", do_once_killed)
        monkeypatch.setattr(OwnSolvers, "solve", solve_killed)
        for stage in ("solve", *TASKS):
            often = 1
            wanted = write_down(service, stage.split()[0])
            done = await end_of(named, await named.create("team", "science", wanted, by="ann"))
            assert (done.status, done.is_current) == (BuildStatus.COMPLETED, True), (stage, done.status_info)
            assert (tmp_path / f"killed {stage.split()[0]} 1").read_bytes() == b"x", stage
        stage, often = "transcoding", 100
        failed = await end_of(named, await named.create("team", "science", write_down(service, ALWAYS), by="ann"))
        assert failed.status == BuildStatus.FAILED
        assert f"transcoding {ALWAYS}" in (failed.status_info or ""), failed.status_info
        assert (await named.store.environments.find("team", "science")).current_build == done.id
