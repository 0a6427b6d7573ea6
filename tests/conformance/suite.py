"""The suite's program, and a run of it against one registry."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.conformance.report import Report, read_report
from tests.support.go_programs import go_program

PACKAGE = "github.com/opencontainers/distribution-spec/conformance"
REVISIONS = ("v0.0.0-20260831232431-97274622c111", "967efdc079b91785ad18c77cc4f8991a47feefbf")
"""The second for where the first cannot be had: a module proxy need not have every revision."""

SPECIFICATIONS = ("1.1", "dev")
RUN_SECONDS = 600


def conformance_program() -> Path:
    """Built once; raises GoProgramUnavailable."""
    return go_program(PACKAGE, REVISIONS)


def run(program: Path, address: str, specification: str, results: Path) -> Report:
    """All checks of `specification` against the registry at `address` (host:port), the suite's files in `results`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCI_")}
    environment |= {
        "OCI_REGISTRY": address,
        "OCI_TLS": "disabled",
        "OCI_VERSION": specification,
        "OCI_RESULTS_DIR": str(results),
        "OCI_LOG": "error",
    }
    # the results of an earlier run are not this one's; the suite exits 0 where it could not even begin
    file = results / "junit.xml"
    file.unlink(missing_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [program],
        env=environment,
        cwd=results,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    (results / "output.txt").write_text(done.stdout + done.stderr)
    if not file.exists():
        raise RuntimeError(f"the suite wrote no results:\n{done.stdout}{done.stderr}")
    return read_report(file.read_text())
