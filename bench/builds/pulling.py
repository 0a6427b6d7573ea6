"""What the number of layers costs clients: pulls of one environment in one layer and in more.

The packages and their bytes are always the same: with N layers each of the N - 1 largest packages has its own, and the
others share the last. The layers of the base and the environment layer come on top. Each image has its own server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from bench.builds.build import SPECS
from bench.builds.peak import service
from bench.row import Row
from bench.serving.load import in_turn
from builder.layers.plan import Plan, PlanPackage
from builder.layers.popularity import Popularity
from builder.names.image_name import parse_specs, write_repository
from tests.support import programs
from tests.support.programs import Containerd, Docker, Podman
from tests.support.sample import sample_channel
from tests.support.server import Server

COUNTS = (1, 10, 20, 27, 42)
"""Numbers of package layers; the figures are ratios to the first."""
MUST = 1.5
"""What the most layers may take, in pulls of one."""

Pull = Callable[[str], float]
"""Pulls a reference of which the client has nothing yet, and returns the seconds."""


def measure(*, short: bool = False) -> list[Row]:
    """A row for each client and number of layers; a missing program is printed and left out."""
    counts, specs = (COUNTS[:2], SPECS[:2]) if short else (COUNTS, SPECS)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients = dict(_clients(stack, work))
        if not clients:
            return []
        channel = sample_channel().as_uri()
        references = [stack.enter_context(_serve(work / f"{count}-layers", channel, specs, count)) for count in counts]
        return [
            row
            for name, pull in clients.items()
            for row in _rows(name, counts, in_turn([partial(pull, each) for each in references], 1 if short else 3))
        ]


def _rows(client: str, counts: Sequence[int], seconds: Sequence[float]) -> list[Row]:
    flat, *others = seconds
    return [
        Row(f"{client} pull, {count} layers", value, "s", MUST, "at most", "one layer of the same packages", flat)
        for count, value in zip(counts[1:], others, strict=True)
    ]


def _clients(stack: contextlib.ExitStack, work: Path) -> Iterator[tuple[str, Pull]]:
    """The clients, each with a storage that has nothing of ours."""

    def docker() -> Pull:
        client = programs.docker()
        return partial(_docker, client)

    def containerd() -> Pull:
        return partial(_containerd, stack.enter_context(programs.containerd(work)))

    def podman() -> Pull:
        return partial(_podman, stack.enter_context(programs.podman()))

    for name, start in (("docker", docker), ("containerd", containerd), ("podman", podman)):
        try:
            yield name, start()
        except pytest.skip.Exception as reason:
            print(f"pulls are not measured with {name}: {reason}")


def _docker(client: Docker, reference: str) -> float:
    client.remove_images_of(reference.partition("/")[0])
    seconds = _time_pull(client.pull, reference)
    client.remove_images_of(reference.partition("/")[0])
    return seconds


def _containerd(client: Containerd, reference: str) -> float:
    seconds = _time_pull(client.pull, reference)
    client.remove(reference)
    return seconds


def _podman(client: Podman, reference: str) -> float:
    seconds = _time_pull(client.pull, reference)
    client.remove_all()
    return seconds


def _time_pull(pull: Callable[[str], None], reference: str) -> float:
    # do not wait for what others have left to be written
    os.sync()
    begun = time.perf_counter()
    pull(reference)
    return time.perf_counter() - begun


@contextlib.contextmanager
def _serve(root: Path, channel: str, specs: Sequence[str], count: int) -> Iterator[str]:
    """A server that already has the image with `count` package layers; yields the reference to pull."""
    data, log = root / "data", root / "log"
    with mock.patch("builder.platform_build.plan", partial(laid_out, count=count)):
        repository = asyncio.run(_build(data, channel, specs))
    server = Server(("--channels", channel, "--workers", "1"), data, log)
    server.start()
    try:
        yield f"{server.address}/{repository}:latest"
    finally:
        server.kill()


async def _build(data: Path, channel: str, specs: Sequence[str]) -> str:
    async with service(data, channel) as opened:
        spec = parse_specs(specs, opened.builder.settings)
        await opened.builder.image(await opened.lock(spec))
        return write_repository(spec, opened.builder.settings)


def laid_out(packages: Sequence[PlanPackage], popularity: Popularity, *, count: int) -> Plan:
    """The largest packages in layers of their own, the others in the last."""
    ordered = sorted(packages, key=lambda package: (-package.size, package.name))
    own, rest = ordered[: count - 1], ordered[count - 1 :]
    layers = [(package.name,) for package in own] + [tuple(package.name for package in rest)]
    return Plan(tuple(layers), own[-1].size if own else 0)
