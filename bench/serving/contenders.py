"""The servers to compare: condery, and the reference registry from Debian and, if there is Go, in version 3."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.go_programs import GoProgramUnavailable
from tests.support.server import Server
from tests.support.servers import distribution

REPOSITORY = "bench/image"
CONDERY, DEBIAN, THREE = "condery", "docker-registry 2.8", "distribution 3"


@dataclass(frozen=True)
class Contender:
    name: str
    port: int
    pid: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/v2/{REPOSITORY}/{path}"


def peers(*, build: bool = True) -> dict[str, Path]:
    """The reference registry's programs that are available, by name; `build` allows builds, which take minutes."""
    found = {}
    try:
        found[DEBIAN] = distribution.docker_registry_2()
    except distribution.RegistryUnavailable as error:
        print(f"not measured against {DEBIAN}: {error}")
    try:
        found[THREE] = distribution.distribution_3(build=build)
    except GoProgramUnavailable as error:
        print(f"not measured against {THREE}: {error}")
    return found


@contextlib.contextmanager
def contenders(programs: dict[str, Path], prefix: Sequence[str], processes: int) -> Iterator[list[Contender]]:
    """Start condery with that many processes, and the peers, each empty and with the command `prefix` around it."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(("--processes", str(processes)), directory / "data", directory / "log", prefix=tuple(prefix))
        server.start()
        stack.callback(server.kill)
        found = [Contender(CONDERY, server.port, server.process.pid)]
        for name, program in programs.items():
            own = directory / name.replace(" ", "-")
            own.mkdir()
            port, pid = stack.enter_context(distribution.serving(program, own, prefix=prefix))
            found.append(Contender(name, port, pid))
        yield found
