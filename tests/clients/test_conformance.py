"""The public conformance suite against a server, and against a registry that is known to fail it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.suite import SPECIFICATIONS, conformance_program, run
from tests.support.go_programs import GoProgramUnavailable
from tests.support.server import StartServer
from tests.support.servers import distribution

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return conformance_program()
    except GoProgramUnavailable as error:
        pytest.skip(f"the conformance suite cannot be built: {error}")


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_every_check_passes(program: Path, start_server: StartServer, specification: str, tmp_path: Path) -> None:
    report = run(program, start_server().address, specification, tmp_path)
    assert report.holds, report.summary()
    assert report.gaps == (), report.summary()


def test_a_registry_that_fails_is_seen_to(program: Path, tmp_path: Path) -> None:
    try:
        registry = distribution.docker_registry_2()
    except distribution.RegistryUnavailable as error:
        pytest.skip(str(error))
    with distribution.serving(registry, tmp_path) as (port, _):
        report = run(program, f"127.0.0.1:{port}", "1.1", tmp_path / "results")
    assert not report.holds
    assert "empty/referrers" in {check.name for check in report.failures}
