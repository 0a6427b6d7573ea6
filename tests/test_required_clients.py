"""Where clients and services are required, a test that skipped its own fails; elsewhere it skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SKIPS = """
import pytest

@pytest.mark.clients
def test_a_client():
    pytest.skip("ctr is not installed")

@pytest.mark.services
def test_a_service():
    pytest.skip("PostgreSQL is not installed")

def test_something_else():
    pytest.skip("not on this machine")
"""

SKIPS_AS_A_WHOLE = """
import pytest
pytest.importorskip("a_module_that_nobody_has")
"""


@pytest.mark.parametrize(("required", "summary"), [("", "4 skipped"), ("1", "2 failed, 1 skipped, 1 error")])
def test_a_skip_is_a_failure_only_where_clients_are_required(tmp_path: Path, required: str, summary: str) -> None:
    folder = tmp_path / "clients"
    folder.mkdir()
    (folder / "test_one.py").write_text(SKIPS)
    (folder / "test_whole.py").write_text(SKIPS_AS_A_WHOLE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*command, "--continue-on-collection-errors", str(folder)],
        cwd=ROOT,
        env={**os.environ, "CONDERY_REQUIRE_CLIENTS": required},
        capture_output=True,
        text=True,
    )
    assert summary in done.stdout
    assert (done.returncode == 0) == (not required)
