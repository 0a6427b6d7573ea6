"""What lies in the current directory is not run, whatever it is called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builder.sample_channel.wheel_cache import PIP
from registry.cli.demonstration import SERVE


@pytest.mark.parametrize(("command", "module"), [(SERVE, "registry"), (PIP, "pip")])
def test_a_module_of_the_current_directory_is_not_run(command: tuple[str, ...], module: str, tmp_path: Path) -> None:
    for name in (f"{module}.py", "typer.py", "subprocess.py"):
        (tmp_path / name).write_text("raise SystemExit(99)\n")
    run = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
