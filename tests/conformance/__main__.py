"""`python -m tests.conformance`: run the public suite against a server started for it; exit 1 when a check fails."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conformance.suite import SPECIFICATIONS, conformance_program, run
from tests.support.go_programs import GoProgramUnavailable
from tests.support.server import Server
from tests.support.servers import distribution


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument(
        "--server",
        choices=["condery", "docker-registry"],
        default="condery",
        help="the other one fails many checks, which shows that failures are reported",
    )
    parser.add_argument("--results", type=Path, default=Path("results/conformance"), help="where the suite's files go")
    parser.add_argument("specifications", nargs="*", default=SPECIFICATIONS, help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        program = conformance_program()
    except GoProgramUnavailable as error:
        print(f"The suite cannot be built: {error}", file=sys.stderr)
        return 2
    serve = condery if chosen.server == "condery" else docker_registry
    holds = True
    for specification in chosen.specifications:
        results = chosen.results.absolute() / specification
        # each version meets an empty registry
        with tempfile.TemporaryDirectory() as directory, serve(Path(directory)) as address:
            report = run(program, address, specification, results)
        print(f"{chosen.server}, specification {specification}: {report.summary()}\n(all of it: {results}/report.html)")
        holds = holds and report.holds
    return 0 if holds else 1


@contextlib.contextmanager
def condery(directory: Path) -> Iterator[str]:
    """The address of a `condery serve` over `directory`."""
    server = Server((), directory / "data", directory / "log")
    server.start()
    try:
        yield server.address
    finally:
        server.kill()


@contextlib.contextmanager
def docker_registry(directory: Path) -> Iterator[str]:
    with distribution.serving(distribution.docker_registry_2(), directory) as (port, _):
        yield f"127.0.0.1:{port}"


if __name__ == "__main__":
    sys.exit(main())
