"""Commands on a server's data directory, run as processes of their own, and the blobs that they leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def condery(data: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "registry.cli", command, "--data-dir", str(data), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def run_line(data: Path, line: str, stdin: str = "") -> str:
    """What a command prints that has to succeed; no word of it has a space."""
    command = [sys.executable, "-m", "registry.cli", *line.split(), "--data-dir", str(data)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def report(data: Path, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = condery(data, command, "--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def files(data: Path) -> list[Path]:
    return [path for path in (data / "blobs").rglob("*") if path.is_file()]
